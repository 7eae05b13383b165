// Loading and storing a thread's elements, whatever they are stored as.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "policy.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <class W>
using Arithmetic = std::conditional_t<std::is_same_v<W, double>, double, float>;

template <class E, int kCount>
struct alignas(sizeof(E) * kCount < 16 ? sizeof(E) * kCount : 16) Pack {
  E at[kCount];
};

template <class T, class E>
__device__ __forceinline__ T widened(E value) {
  if constexpr (std::is_same_v<E, __nv_bfloat16>) return __bfloat162float(value);
  else if constexpr (std::is_same_v<E, __half>) return __half2float(value);
  else return value;
}

template <class E, class T>
__device__ __forceinline__ E narrowed(T value) {
  if constexpr (std::is_same_v<E, __nv_bfloat16>) return __float2bfloat16_rn(value);
  else if constexpr (std::is_same_v<E, __half>) return __float2half_rn(value);
  else return value;
}

// A pointer out of a table: the compiler cannot see that it leads to global memory.
template <class E>
__device__ __forceinline__ E* global(E* data) {
#ifndef __SIMT__
  __builtin_assume(__isGlobal(data));
#endif
  return data;
}

// Whether a thread's elements are one vector that can be moved at once.
template <int kStride, int kVector, class E, class Index>
__device__ __forceinline__ bool is_packed(const E* data, Index first, Index end) {
  if constexpr (kStride != 1 || kVector == 1) return false;
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && first + kVector <= end;
}

// A thread's elements, of which those from `end` on read as 0.
template <int kStride, int kVector, class T, class E, class Index>
__device__ __forceinline__ void load(const E* data, Index first, Index end, T (&out)[kVector]) {
  data = global(data);
  if (is_packed<kStride, kVector>(data, first, end)) {
    const auto pack = *reinterpret_cast<const Pack<E, kVector>*>(data + first);
#pragma unroll
    for (int k = 0; k < kVector; ++k) out[k] = widened<T>(pack.at[k]);
  } else {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      out[k] = first + k * kStride < end ? widened<T>(data[first + k * kStride]) : T(0);
    }
  }
}

template <int kStride, int kVector, class T, class E, class Index>
__device__ __forceinline__ void store(E* data, Index first, Index end, const T (&in)[kVector]) {
  data = global(data);
  if (is_packed<kStride, kVector>(data, first, end)) {
    Pack<E, kVector> pack;
#pragma unroll
    for (int k = 0; k < kVector; ++k) pack.at[k] = narrowed<E>(in[k]);
    *reinterpret_cast<Pack<E, kVector>*>(data + first) = pack;
  } else {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      if (first + k * kStride < end) data[first + k * kStride] = narrowed<E>(in[k]);
    }
  }
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
