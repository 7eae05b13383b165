// Which threads step which segments: the tiers, and where their threads find their elements. Pure
// integer functions, for the host and for kernels, in 64 bits wherever a tensor is counted.
// The numbers are for benchmarks/tune.py to vary; benchmarks/NOTES.md says where they come from.
#pragma once

#include <cstdint>

#include "../plan.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define SPHERE_ANYWHERE __host__ __device__ constexpr
#else
#define SPHERE_ANYWHERE constexpr
#endif

namespace sphere_fused {

enum Tier : int8_t {
  kElements,     // single elements: nothing is summed
  kTileRows,     // a thread per row, staged through shared memory
  kRows,         // 8 lanes of a warp up to a whole block per row, which stays in their registers
  kClusterRows,  // 2, 4 or 8 blocks per row, likewise; from compute capability 9.0 on
  kLongRows,     // pieces of a row by any block, summed first and updated while the L2 has them
  kColumns,      // segments that lie across memory, in strips that are read twice
  kLongColumns,  // likewise, in pieces as long rows are
  kTiers
};

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;  // of every block
inline constexpr int kWarps = kThreads / kWarp;
// Blocks that must fit on a multiprocessor together: 128 registers per thread.
inline constexpr int kBlocksPerProcessor = 2;
inline constexpr int kLeastThreads = 8;  // that share a row of kRows
inline constexpr int kMostBlocks = 8;    // that share a row of kClusterRows: more are not portable
inline constexpr int kLongestInTile = 32;
inline constexpr int kTileBytes = 15360;  // of each of w, x and g: all three are in 48 KB
inline constexpr int kStrip = kWarp;      // adjacent columns that one block steps
inline constexpr int kStripRows = 256;    // of longer strips, not all are in the L2 when read again
inline constexpr int kAskedBytes = 32;    // of each of w, g and m, by a thread at once
inline constexpr int kAskedOfFour = 16;   // where v is read too
inline constexpr int kAskedOfFourColumns = 12;  // whose elements each have an address of their own
inline constexpr int kPieceBytes = 64;          // of a long segment, for each thread
inline constexpr int kSums = 7;                 // most that threads form together
inline constexpr int kSurveyed = 4096;          // elements of a block's turn at a survey, about

// Elements that a thread holds of w and of x where rows stay in registers. `size` is that of a
// number that arithmetic is done in. The more a direction sums and reads, the fewer: others would
// spill.
SPHERE_ANYWHERE int held_by(int size, Direction direction) {
  if (size == 8) return direction == kMoment || direction == kPrevious ? 8 : 4;
  return direction == kMoment ? 32 : 16;
}

// Chunks of `vector` elements of each of w, g and m that a thread asks memory for at once: enough
// on the way to hide that memory is far.
SPHERE_ANYWHERE int chunks_at_once(int size, int vector, bool of_four = false) {
  const int bytes = !of_four ? kAskedBytes : vector > 1 ? kAskedOfFour : kAskedOfFourColumns;
  return bytes / size < vector ? 1 : bytes / size / vector;
}

// Elements that a thread moves at once: 16 bytes of the narrower dtype.
SPHERE_ANYWHERE int vector_of(int w_size, int g_size) {
  return 16 / (w_size < g_size ? w_size : g_size);
}

SPHERE_ANYWHERE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Threads that share a row of kRows, and blocks that share one of kClusterRows: powers of two.
SPHERE_ANYWHERE int threads_of(int64_t dim, int size, Direction direction) {
  int threads = kLeastThreads;
  while (threads < kThreads && dim > threads * held_by(size, direction)) threads *= 2;
  return threads;
}
SPHERE_ANYWHERE int blocks_of(int64_t dim, int size, Direction direction) {
  int blocks = 2;
  while (blocks < kMostBlocks && dim > blocks * kThreads * held_by(size, direction)) blocks *= 2;
  return blocks;
}

SPHERE_ANYWHERE Tier tier_of(int64_t dim, int64_t inner, int size, Direction direction,
                             bool clusters) {
  if (inner > 1) return dim <= kStripRows ? kColumns : kLongColumns;
  if (dim <= kLongestInTile) return kTileRows;
  const int block = kThreads * held_by(size, direction);
  if (dim <= block) return kRows;
  return clusters && dim <= kMostBlocks * block ? kClusterRows : kLongRows;
}

// How many rows a block surveys in a turn, each with as many threads as would hold it.
SPHERE_ANYWHERE int threads_to_survey(int64_t dim) {
  return threads_of(dim, sizeof(float), kMoment);
}
SPHERE_ANYWHERE int64_t rows_to_survey(int64_t dim) {
  const int at_once = kThreads / threads_to_survey(dim);
  return at_once * ceil_div(kSurveyed, at_once * dim);
}
SPHERE_ANYWHERE int64_t units_to_survey(int64_t outer, int64_t dim, int64_t inner) {
  return inner > 1 ? outer * ceil_div(inner, kStrip) : ceil_div(outer, rows_to_survey(dim));
}

// Elements of a block's turn at single elements.
SPHERE_ANYWHERE int elements_in_turn(int size, int vector) {
  return kThreads * chunks_at_once(size, vector) * vector;
}

// Rows of a tile: a multiple of 8, so that every tile begins where a vector may.
SPHERE_ANYWHERE int tile_rows(int64_t dim, int size) {
  const int fitting = int(kTileBytes / size / dim) / 8 * 8;
  return fitting < kThreads ? fitting : kThreads;
}

// Where element i of a tile lies in shared memory: threads that read row after row, at any stride,
// find them in different banks.
SPHERE_ANYWHERE int spread(int i) {
  return i + i / kWarp;
}

// The part of a long row, or of a long strip along its columns, that a block sums or updates.
SPHERE_ANYWHERE int piece_of(Tier tier, int size) {
  return (tier == kLongRows ? kThreads : kWarps) * (kPieceBytes / size);
}

// Long segments that are worked on together: one row, or the columns of a strip.
SPHERE_ANYWHERE int64_t bundles_of(Tier tier, int64_t outer, int64_t inner) {
  return tier == kLongRows ? outer : outer * ceil_div(inner, kStrip);
}
SPHERE_ANYWHERE int64_t segments_in_bundle(Tier tier) {
  return tier == kLongRows ? 1 : kStrip;
}

// How many units, each one turn of one block, a tensor is cut into.
SPHERE_ANYWHERE int64_t units_of(Tier tier, int64_t outer, int64_t dim, int64_t inner, int size,
                                 int vector, Direction direction) {
  switch (tier) {
    case kElements:
      return ceil_div(outer, elements_in_turn(size, vector));
    case kTileRows:
      return ceil_div(outer, tile_rows(dim, size));
    case kRows:
      return ceil_div(outer, kThreads / threads_of(dim, size, direction));
    case kClusterRows:
      return outer * blocks_of(dim, size, direction);
    case kColumns:
      return outer * ceil_div(inner, kStrip);
    default:  // every piece is summed, and updated
      return 2 * bundles_of(tier, outer, inner) * ceil_div(dim, piece_of(tier, size));
  }
}

SPHERE_ANYWHERE int shared_bytes(Tier tier, int size) {
  constexpr int kOfWarps = kWarps * kSums * 8, kOfColumns = kOfWarps * kStrip;
  switch (tier) {
    case kTileRows:
      return 3 * spread(kTileBytes / size) * size;
    case kRows:
      return kOfWarps;
    case kClusterRows:  // and of the block
      return kOfWarps + kSums * 8;
    case kLongRows:  // and the next unit
      return kOfWarps + 16;
    case kColumns:
      return kOfColumns;
    case kLongColumns:
      return kOfColumns + 16;
    default:
      return 0;
  }
}

// The turn number `turn` at `pieces` of long segments: a piece is summed `lag` turns before one is
// updated, and its whole segment before it is.
struct Turn {
  bool updates;
  int64_t piece;
};
SPHERE_ANYWHERE Turn turn_at(int64_t turn, int64_t pieces, int64_t lag) {
  if (turn < lag) return {false, turn};
  const int64_t both = turn - lag;
  if (both < 2 * (pieces - lag)) return {both % 2 == 1, both / 2 + (both % 2 ? 0 : lag)};
  return {true, turn - pieces};
}
// Enough that the blocks, all at work, do not wait for each other; no more, or the L2 forgets.
SPHERE_ANYWHERE int64_t lag_of(int64_t pieces, int64_t pieces_per_bundle, int64_t blocks) {
  return pieces < pieces_per_bundle + blocks ? pieces : pieces_per_bundle + blocks;
}

// Element (o, d, i) of a tensor of segments; see Segments in plan.h.
SPHERE_ANYWHERE int64_t element_at(int64_t dim, int64_t inner, int64_t o, int64_t d, int64_t i) {
  return (o * dim + d) * inner + i;
}

// A block's strip of columns: its outer index and its first column.
struct Strip {
  int64_t outer, column;
};
SPHERE_ANYWHERE Strip strip_at(int64_t strip, int64_t inner) {
  const int64_t per_outer = ceil_div(inner, kStrip);
  return {strip / per_outer, strip % per_outer * kStrip};
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
