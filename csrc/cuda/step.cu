// The kernels of one pair of dtypes, which SPHERE_W, SPHERE_G and SPHERE_KERNELS name: one for every
// tier and direction. A block takes one unit of work after another.
#include "step.cuh"

#include "agent.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {
namespace {

// Segments of one element: no inner products, so nothing is shared.
template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_elements(const Entry& entry, int64_t piece) {
  using All = Elements<W, G>;
  using T = typename All::T;
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const All all(at, 0, true);
  const Array<T> second(static_cast<T*>(at.s), true);
  const auto slots = slots_at(true, All::kVector, kThreads, piece, threadIdx.x);
  const Update<T> u = step(at.rule, Gram<T>{}, T(0), h);
  T w[All::kVector], g[All::kVector], m[All::kVector] = {}, v[All::kVector] = {};
  all.w.load(slots, at.outer, w);
  all.g.load(slots, at.outer, g);
  if (all.m.data) all.m.load(slots, at.outer, m);
  if constexpr (kDirection == kAdam) second.load(slots, at.outer, v);
#pragma unroll
  for (int k = 0; k < All::kVector; ++k) {
    g[k] = gradient(g[k], w[k], h);
    const T x = moments<kDirection>(g[k], m[k], v[k], h);
    w[k] = new_weight<kDirection>(w[k], x, g[k], u);
  }
  all.w.store(slots, at.outer, w);
  if (all.m.data) all.m.store(slots, at.outer, m);
  if constexpr (kDirection == kAdam) second.store(slots, at.outer, v);
}

template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_long_row(const Entry& entry, int64_t index) {
  using Row = Elements<W, G>;
  const int64_t dim = entry.at.dim;
  const bool vectors = dim % Row::kVector == 0;
  const BlockGroup group;
  step_read_twice<kDirection, Row::kVector>(
      entry, Row(entry.at, index * dim, vectors), index, group,
      ceil_div(dim, kThreads * Row::kVector), dim, [&](int64_t chunk) {
        return slots_at(vectors, Row::kVector, kThreads, chunk, group.thread);
      });
}

template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_strip(const Entry& entry, int64_t piece) {
  const int64_t dim = entry.at.dim, inner = entry.at.inner;
  const ColumnGroup group;
  const Strip strip = strip_at(piece, inner);
  const int64_t column = strip.column + group.lane;
  const bool outside = column >= inner;  // the strip ends before this lane, which still sums zeros
  const int64_t first = outside ? 0 : element_at(dim, inner, strip.outer, 0, column);
  step_read_twice<kDirection, 1>(
      entry, Elements<W, G>(entry.at, first, false), strip.outer * inner + column, group,
      outside ? 0 : ceil_div(dim - group.warp, kWarps), dim * inner, [&](int64_t chunk) {
        return Slots<int64_t>{(chunk * kWarps + group.warp) * inner, 1};
      });
}

template <Tier kTier, Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) step_units(WorkList work) {
  for (int64_t unit = blockIdx.x; unit < work.units; unit += gridDim.x) {
    const Entry& entry = work.entries[work.entry_of[unit]];
    if (!entry.at.g) continue;
    const int64_t piece = unit - entry.first_unit;
    if constexpr (kTier == kElements) {
      step_elements<kDirection, W, G>(entry, piece);
    } else if constexpr (kTier == kWarpRows) {
      const int64_t row = piece * kWarps + threadIdx.x / kWarp;
      if (row < entry.at.outer) step_held_row<kDirection, WarpGroup, W, G>(entry, row, {});
    } else if constexpr (kTier == kBlockRows) {
      step_held_row<kDirection, BlockGroup, W, G>(entry, piece, {});
    } else if constexpr (kTier == kLongRows) {
      step_long_row<kDirection, W, G>(entry, piece);
    } else {
      step_strip<kDirection, W, G>(entry, piece);
    }
  }
}

template <Direction kDirection>
constexpr void fill(Kernels& kernels) {
  using W = SPHERE_W;
  using G = SPHERE_G;
  if constexpr (kDirection != kPrevious) {
    kernels.at[kElements][kDirection] = step_units<kElements, kDirection, W, G>;
  }
  if constexpr (kDirection != kAdam) {  // so far Adam's direction is only for single elements
    kernels.at[kWarpRows][kDirection] = step_units<kWarpRows, kDirection, W, G>;
    kernels.at[kBlockRows][kDirection] = step_units<kBlockRows, kDirection, W, G>;
    kernels.at[kLongRows][kDirection] = step_units<kLongRows, kDirection, W, G>;
    kernels.at[kColumns][kDirection] = step_units<kColumns, kDirection, W, G>;
  }
}

}  // namespace
}  // namespace SPHERE_ISA

extern const Kernels SPHERE_KERNELS = [] {
  Kernels kernels = {};
  fill<kMoment>(kernels);
  fill<kPrevious>(kernels);
  fill<kAdam>(kernels);
  return kernels;
}();

}  // namespace sphere_fused
