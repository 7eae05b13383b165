// The threads that share segments, and their sums. Every thread gets every sum of its segment, the
// same bits in each, added in an order that depends on nothing but the number of threads.
#pragma once

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#include <cooperative_groups.h>
#define SPHERE_CLUSTERS
#endif

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

// Over those lanes of a warp that share a row, a power of two of them. All lanes take part.
template <class T>
__device__ __forceinline__ T lane_sum(T value, int lanes) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(0xffffffff, value, step);
    value = step < lanes ? value + other : value;
  }
  return value;
}

// Neighbouring threads of a block, a power of two of them, of which there are as many such groups
// as fit. All lanes of a warp must do everything together.
struct RowGroup {
  int threads, number = int(threadIdx.x / unsigned(threads));
  int thread = int(threadIdx.x) - number * threads;

  __device__ explicit RowGroup(int threads) : threads(threads) {}
  __device__ int size() const { return threads; }
  __device__ bool leads() const { return thread == 0; }
  // Whether a thread wants what the threads must do together.
  __device__ bool any(bool mine) const {
    return threads < kWarp ? __any_sync(0xffffffff, mine) != 0 : mine;
  }

  template <class T, int kCount>
  __device__ __forceinline__ void sum(T (&values)[kCount]) const {
    static_assert(kCount <= kSums);
    __syncwarp();  // what the threads have read before is now theirs to write
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = lane_sum(values[i], threads);
    if (threads <= kWarp) return;
    // Another group may be a row ahead or behind, in groups of another size and at sums of another
    // type: every warp has a place of its own, and every group of any size a barrier.
    constexpr int kPlace = kSums * int(sizeof(double) / sizeof(T));
    const int warps = threads / kWarp;
    T* const partial = dynamic_shared<T>() + number * warps * kPlace;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (thread % kWarp == 0) partial[thread / kWarp * kPlace + i] = values[i];
    }
    sync();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = partial[i];
#pragma unroll(sizeof(T) == 8 ? 1 : kWarps)  // doubles would fill the registers
      for (int w = 1; w < kWarps; ++w) {
        if (w < warps) values[i] += partial[w * kPlace + i];
      }
    }
    sync();  // before the next sum is written there
  }

  // Barrier 0 is __syncthreads, 1 that of all threads, 2 and 3 those of halves, and so on.
  __device__ void sync() const { __barrier_sync_count(kThreads / threads + number, threads); }
};

// All threads of a block.
struct BlockGroup : RowGroup {
  __device__ BlockGroup() : RowGroup(kThreads) { number = 0, thread = int(threadIdx.x); }

  // The largest; NaN if any is. After a sum.
  template <class T>
  __device__ __forceinline__ T largest(T value) const {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      value = maximum(value, __shfl_xor_sync(0xffffffff, value, step));
    }
    T* const of_warps = dynamic_shared<T>();
    if (thread % kWarp == 0) of_warps[thread / kWarp] = value;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) value = maximum(value, of_warps[w]);
    __syncthreads();  // before anything else is written there
    return value;
  }
};

#ifdef SPHERE_CLUSTERS
// All threads of the blocks of a cluster, which read each other's sums.
struct ClusterGroup {
  int thread = int(cooperative_groups::this_cluster().block_rank()) * kThreads + int(threadIdx.x);

  static __device__ int blocks() { return int(cooperative_groups::this_cluster().num_blocks()); }
  __device__ int size() const { return blocks() * kThreads; }
  __device__ bool leads() const { return thread == 0; }
  __device__ bool any(bool mine) const { return mine; }

  template <class T, int kCount>
  __device__ __forceinline__ void sum(T (&values)[kCount]) const {
    const auto cluster = cooperative_groups::this_cluster();
    T* const partial = dynamic_shared<T>();
    T* const of_block = partial + kWarps * kCount;
    const int own = int(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const T of_warp = lane_sum(values[i], kWarp);
      if (own % kWarp == 0) partial[own / kWarp * kCount + i] = of_warp;
    }
    __syncthreads();
    if (own < kCount) {
      T sum = partial[own];
      for (int w = 1; w < kWarps; ++w) sum += partial[w * kCount + own];
      of_block[own] = sum;
    }
    cluster.sync();
    const T* const first = cluster.map_shared_rank(of_block, 0);
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = first[i];
#pragma unroll 1
    for (int rank = 1; rank < blocks(); ++rank) {
      const T* const other = cluster.map_shared_rank(of_block, rank);
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] += other[i];
    }
    cluster.sync();  // before the next sum is written there, or a block ends
  }
};
#endif

// A strip of columns: each lane has its own, which the warps share.
struct ColumnGroup {
  int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  __device__ bool leads() const { return warp == 0; }
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

// The products that a direction needs, as an array: what groups add, and blocks hand over.
template <Direction kDirection>
inline constexpr int kProducts = kDirection == kMoment     ? 4
                                 : kDirection == kPrevious ? 6
                                                           : 7;

template <Direction kDirection, class T>
__device__ __forceinline__ void unpack(const Gram<T>& a, T (&v)[kProducts<kDirection>]) {
  v[0] = a.ww, v[1] = a.wx, v[2] = a.xx, v[3] = a.gg;
  if constexpr (kDirection != kMoment) v[4] = a.wg;
  if constexpr (kDirection == kPrevious) v[5] = a.gx;
  if constexpr (!kMakesMoment<kDirection>) v[5] = a.sw, v[6] = a.sx;
}
template <Direction kDirection, class T>
__device__ __forceinline__ Gram<T> packed(const T (&v)[kProducts<kDirection>]) {
  Gram<T> a = {};
  a.ww = v[0], a.wx = v[1], a.xx = v[2], a.gg = v[3];
  if constexpr (kDirection != kMoment) a.wg = v[4];
  if constexpr (kDirection == kPrevious) a.gx = v[5];
  if constexpr (!kMakesMoment<kDirection>) a.sw = v[5], a.sx = v[6];
  return a;
}

template <Direction kDirection, class Group, class T>
__device__ __forceinline__ Gram<T> sum(const Group& group, const Gram<T>& a) {
  T v[kProducts<kDirection>];
  unpack<kDirection>(a, v);
  group.sum(v);
  return packed<kDirection>(v);
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
