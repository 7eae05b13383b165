// Sums over the threads that share a segment. Every thread gets every sum, the same bits in each,
// added in an order that depends on nothing but the number of threads.
#pragma once

#include "../math.h"
#include "policy.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// The launch's dynamic shared memory: the only kind that is used.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#ifdef __SIMT__
  return static_cast<T*>(simt::shared_memory());
#else
  extern __shared__ __align__(16) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
#endif
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffff, value, step);
  }
  return value;
}

struct WarpGroup {
  static constexpr int kSize = kWarp;
  int thread = threadIdx.x % kWarp;

  __device__ bool leads() const { return thread == 0; }
  // All threads agree on what concerns their only segment.
  __device__ bool any(bool mine) const { return mine; }

  template <class T, int kCount>
  __device__ __forceinline__ void sum(T (&values)[kCount]) const {
    __syncwarp();  // what the threads have read before is now theirs to write
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = warp_sum(values[i]);
  }
};

struct BlockGroup {
  static constexpr int kSize = kThreads;
  int thread = threadIdx.x;

  __device__ bool leads() const { return thread == 0; }
  __device__ bool any(bool mine) const { return mine; }

  template <class T, int kCount>
  __device__ __forceinline__ void sum(T (&values)[kCount]) const {
    static_assert(kCount <= kSums);
    T* const partial = dynamic_shared<T>();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T of_warp = warp_sum(values[i]);
      if (thread % kWarp == 0) partial[thread / kWarp * kCount + i] = of_warp;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = partial[i];
#pragma unroll(sizeof(T) == 8 ? 1 : kWarps)  // doubles would fill the registers
      for (int w = 1; w < kWarps; ++w) values[i] += partial[w * kCount + i];
    }
    __syncthreads();  // before the next sum is written there
  }
};

// A strip of columns: each lane has its own, which the warps share.
struct ColumnGroup {
  int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  __device__ bool leads() const { return warp == 0; }
  // Whether a lane wants what all threads must do together.
  __device__ bool any(bool mine) const { return __syncthreads_or(mine); }

  template <class T, int kCount>
  __device__ __forceinline__ void sum(T (&values)[kCount]) const {
    static_assert(kCount <= kSums);
    T* const partial = dynamic_shared<T>();
#pragma unroll
    for (int i = 0; i < kCount; ++i) partial[(i * kWarps + warp) * kStrip + lane] = values[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = partial[i * kWarps * kStrip + lane];
      for (int w = 1; w < kWarps; ++w) values[i] += partial[(i * kWarps + w) * kStrip + lane];
    }
    __syncthreads();  // before the next sum is written there
  }
};

template <Direction kDirection, class Group, class T>
__device__ __forceinline__ Gram<T> sum(const Group& group, const Gram<T>& a) {
  if constexpr (kDirection == kPrevious) {
    T v[] = {a.ww, a.wx, a.xx, a.wg, a.gg, a.gx};
    group.sum(v);
    return {v[0], v[1], v[2], v[3], v[4], v[5], {}, {}};
  } else {
    T v[] = {a.ww, a.wx, a.xx, a.gg};
    group.sum(v);
    return {v[0], v[1], v[2], {}, v[3], {}, {}, {}};
  }
}

template <class Group, class T>
__device__ __forceinline__ Tangent<T> sum(const Group& group, const Tangent<T>& a) {
  T v[] = {a.hh, a.hx};
  group.sum(v);
  return {v[0], v[1]};
}

template <class Group, class T>
__device__ __forceinline__ Landing<T> sum(const Group& group, const Landing<T>& a) {
  T v[] = {a.yy, a.wy, a.xy};
  group.sum(v);
  return {v[0], v[1], v[2]};
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
