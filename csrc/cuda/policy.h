// Which threads step which segments: the tiers, and where their threads find their elements. Pure
// integer functions, for the host and for kernels, in 64 bits wherever a tensor is counted.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define SPHERE_ANYWHERE __host__ __device__ constexpr
#else
#define SPHERE_ANYWHERE constexpr
#endif

namespace sphere_fused {

// Each is one kernel for every pair of dtypes and direction, and one launch over all tensors.
enum Tier {
  kElements,   // segments of one element: nothing is summed
  kWarpRows,   // a warp per row, which stays in registers
  kBlockRows,  // a block per row, which stays in registers
  kLongRows,   // a block per row, read twice
  kColumns,    // segments that lie across memory: neighbours in strips
  kTiers
};

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;  // of every block
inline constexpr int kWarps = kThreads / kWarp;
// Blocks that must fit on a multiprocessor together: 128 registers per thread.
inline constexpr int kBlocksPerProcessor = 2;
// Elements that a thread of a warp, or of a block, holds of w and of x where rows stay in
// registers. `size` is that of a number that arithmetic is done in, `previous` the direction, which
// costs registers: more elements than these would spill.
SPHERE_ANYWHERE int held_by(int threads, int size, bool previous) {
  if (size == 8) return 8;
  return previous ? 16 : threads == kWarp ? 24 : 32;
}
// Adjacent columns that one block steps; its warps share their elements.
inline constexpr int kStrip = kWarp;
// Most sums that threads form together; those of `measure`, in double.
inline constexpr int kSums = 6, kMeasured = 3;
// Elements that a thread sums before it adds the sum to a double, where rows may be long.
inline constexpr int kPartial = 64;

// Elements that a thread moves at once: 16 bytes of the narrower dtype.
SPHERE_ANYWHERE int vector_of(int w_size, int g_size) {
  return 16 / (w_size < g_size ? w_size : g_size);
}

SPHERE_ANYWHERE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

SPHERE_ANYWHERE Tier tier_of(int64_t dim, int64_t inner, int size, bool previous) {
  if (dim == 1) return kElements;
  if (inner > 1) return kColumns;
  if (dim <= kWarp * held_by(kWarp, size, previous)) return kWarpRows;
  return dim <= kThreads * held_by(kThreads, size, previous) ? kBlockRows : kLongRows;
}

// How many pieces, each the work of one block, a tensor is cut into.
SPHERE_ANYWHERE int64_t units_of(Tier tier, int64_t outer, int64_t inner, int vector) {
  switch (tier) {
    case kElements:
      return ceil_div(outer, kThreads * vector);
    case kWarpRows:
      return ceil_div(outer, kWarps);
    case kColumns:
      return outer * ceil_div(inner, kStrip);
    default:
      return outer;
  }
}

SPHERE_ANYWHERE int shared_bytes(Tier tier, int size) {
  switch (tier) {
    case kBlockRows:  // at most kSums numbers, or kMeasured doubles
      return kWarps * (kSums * size > kMeasured * 8 ? kSums * size : kMeasured * 8);
    case kLongRows:
      return kWarps * kSums * int(sizeof(double));
    case kColumns:
      return kWarps * kStrip * kSums * int(sizeof(double));
    default:
      return 0;
  }
}

// Element (o, d, i) of a tensor of segments; see Segments in plan.h.
SPHERE_ANYWHERE int64_t element_at(int64_t dim, int64_t inner, int64_t o, int64_t d, int64_t i) {
  return (o * dim + d) * inner + i;
}

// A block's strip of columns: its outer index and its first column.
struct Strip {
  int64_t outer, column;
};
SPHERE_ANYWHERE Strip strip_at(int64_t unit, int64_t inner) {
  const int64_t per_outer = ceil_div(inner, kStrip);
  return {unit / per_outer, unit % per_outer * kStrip};
}

// How the elements of a chunk are dealt to the threads of a group: vectors to one after the other,
// or, where rows are no multiple of a vector, single elements. Either way the threads read one
// stretch of memory together, and the length of a row alone decides, so that its sums do not depend
// on its address. A thread's elements are at first, first + stride, ...
SPHERE_ANYWHERE int stride_of(bool vectors, int threads) {
  return vectors ? 1 : threads;
}
template <class Index>
SPHERE_ANYWHERE Index first_of(bool vectors, int vector, int threads, Index chunk, int thread) {
  return chunk * threads * vector + thread * (vectors ? vector : 1);
}

}  // namespace sphere_fused
