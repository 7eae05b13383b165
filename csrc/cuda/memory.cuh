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

// Some of a thread's elements, as memory has them: asking for them does not wait, unpacking does.
// So that many are on their way at once, a thread asks for all before it unpacks the first.
template <class E, int kCount, bool kVectors>
struct Raw {
  E at[kCount];
  __device__ __forceinline__ void unpack(E (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = at[k];
  }
  __device__ __forceinline__ void pack(const E (&in)[kCount]) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) at[k] = in[k];
  }
};
template <class E, int kCount>
struct Raw<E, kCount, true> {
  static constexpr int kWords = sizeof(E) * kCount / 16;
  uint4 words[kWords];
  __device__ __forceinline__ void unpack(E (&out)[kCount]) const { memcpy(out, words, sizeof out); }
  __device__ __forceinline__ void pack(const E (&in)[kCount]) { memcpy(words, in, sizeof in); }
};

// Elements first, first + stride, ... of which those from `end` on are `beyond`. Without kInVectors
// one by one; with, they lie where a vector may, and are all before `end` or none.
template <bool kInVectors, int kCount, bool kVectors, class E, class Index>
__device__ __forceinline__ void ask(const E* data, Index first, Index stride, Index end,
                                    Raw<E, kCount, kVectors>& raw, int beyond = 0) {
  data = global(data);
  E at[kCount];
#pragma unroll
  for (int k = 0; k < kCount; ++k) at[k] = narrowed<E>(Arithmetic<E>(beyond));
  if constexpr (kInVectors) {
    const uint4* const from = global(reinterpret_cast<const uint4*>(data + first));
    raw.pack(at);
#pragma unroll
    for (int i = 0; i < raw.kWords; ++i) raw.words[i] = first < end ? from[i] : raw.words[i];
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if (first + k * stride < end) at[k] = data[first + k * stride];
    }
    raw.pack(at);
  }
}

template <int kCount, bool kVectors, class T, class E>
__device__ __forceinline__ void take(const Raw<E, kCount, kVectors>& raw, T (&out)[kCount]) {
  E at[kCount];
  raw.unpack(at);
#pragma unroll
  for (int k = 0; k < kCount; ++k) out[k] = widened<T>(at[k]);
}

// By an intrinsic that says where it leads: the compiler would join the last stores of two branches
// into one that does not know.
template <bool kInVectors, int kCount, class T, class E, class Index>
__device__ __forceinline__ void store(E* data, Index first, Index stride, Index end,
                                      const T (&in)[kCount]) {
  data = global(data);
  E at[kCount];
#pragma unroll
  for (int k = 0; k < kCount; ++k) at[k] = narrowed<E>(in[k]);
  if constexpr (kInVectors) {
    Raw<E, kCount, true> raw;
    raw.pack(at);
    uint4* const to = global(reinterpret_cast<uint4*>(data + first));
#pragma unroll
    for (int i = 0; i < raw.kWords; ++i) {
      if (first < end) __stwb(to + i, raw.words[i]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if (first + k * stride < end) __stwb(data + first + k * stride, at[k]);
    }
  }
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
