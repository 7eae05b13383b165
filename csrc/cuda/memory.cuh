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

// Elements in memory: a row, or a parameter.
template <class E>
struct Array {
  using Stored = std::remove_const_t<E>;
  E* data;
  bool packed;  // vectors are aligned

  __device__ Array(E* data, bool vectors)
      : data(data), packed(vectors && reinterpret_cast<uintptr_t>(data) % 16 == 0) {}

  // Elements from `end` on read as 0.
  template <class T, int kVector, class Index>
  __device__ __forceinline__ void load(Slots<Index> at, Index end, T (&out)[kVector]) const {
    if (packed && at.first + kVector <= end) {
      const auto pack = *reinterpret_cast<const Pack<Stored, kVector>*>(data + at.first);
#pragma unroll
      for (int k = 0; k < kVector; ++k) out[k] = widened<T>(pack.at[k]);
      return;
    }
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      const Index i = at.first + k * at.stride;
      out[k] = i < end ? widened<T>(data[i]) : T(0);
    }
  }

  template <class T, int kVector, class Index>
  __device__ __forceinline__ void store(Slots<Index> at, Index end, const T (&in)[kVector]) const {
    if (packed && at.first + kVector <= end) {
      Pack<Stored, kVector> pack;
#pragma unroll
      for (int k = 0; k < kVector; ++k) pack.at[k] = narrowed<Stored>(in[k]);
      *reinterpret_cast<Pack<Stored, kVector>*>(data + at.first) = pack;
      return;
    }
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      const Index i = at.first + k * at.stride;
      if (i < end) data[i] = narrowed<Stored>(in[k]);
    }
  }
};

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
