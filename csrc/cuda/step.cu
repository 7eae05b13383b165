// The kernels of one pair of dtypes, which SPHERE_W, SPHERE_G and SPHERE_KERNELS name: one for
// every tier and direction, and where rows are moved as vectors or not. A block takes one unit of
// work after another.
#include "step.cuh"

#include "agent.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {
namespace {

// Segments of one element: no inner products, so nothing is shared.
template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_elements(const Entry& entry, int64_t piece) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector;
  const Segments& at = entry.at;
  const Elements<W, G> all(at, 0);
  T* const second = static_cast<T*>(at.s);
  const Hyper<T>& h = hyper_of<T>(entry);
  const int64_t first = first_of(true, kVector, kThreads, piece, threadIdx.x);
  const Update<T> u = step(at.rule, Gram<T>{}, T(0), h);
  T w[kVector], g[kVector], m[kVector] = {}, v[kVector] = {};
  load<1>(all.w, first, at.outer, w);
  load<1>(all.g, first, at.outer, g);
  if (all.m) load<1>(all.m, first, at.outer, m);
  if constexpr (kDirection == kAdam) load<1>(second, first, at.outer, v);
#pragma unroll
  for (int k = 0; k < kVector; ++k) {
    g[k] = gradient(g[k], w[k], h);
    const T x = moments<kDirection>(g[k], m[k], v[k], h);
    w[k] = new_weight<kDirection>(w[k], x, g[k], u);
  }
  store<1>(all.w, first, at.outer, w);
  if (all.m) store<1>(all.m, first, at.outer, m);
  if constexpr (kDirection == kAdam) store<1>(second, first, at.outer, v);
}

template <Direction kDirection, bool kVectors, class W, class G>
__device__ __forceinline__ void step_long_row(const Entry& entry, const Elements<W, G>& row,
                                              int64_t index) {
  constexpr int kVector = Elements<W, G>::kVector;
  const BlockGroup group;
  const int64_t start = first_of<int64_t>(kVectors, kVector, kThreads, 0, group.thread);
  step_read_twice<kDirection, stride_of(kVectors, kThreads), kVector>(
      entry, row, index, group, {start, kThreads * kVector, entry.at.dim},
      {group.thread, kThreads, entry.at.dim});
}

template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_strip(const Entry& entry, int64_t piece) {
  const int64_t dim = entry.at.dim, inner = entry.at.inner;
  const ColumnGroup group;
  const Strip strip = strip_at(piece, inner);
  const int64_t column = strip.column + group.lane;
  const bool inside = column < inner;  // else the strip ends before this lane, which sums zeros
  const int64_t first = inside ? element_at(dim, inner, strip.outer, 0, column) : 0;
  const Share mine = {group.warp * inner, kWarps * inner, inside ? dim * inner : 0};
  step_read_twice<kDirection, 1, 1>(entry, Elements<W, G>(entry.at, first),
                                    strip.outer * inner + column, group, mine, mine);
}

template <Tier kTier, bool kVectors, Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) step_units(WorkList work) {
  for (int64_t unit = blockIdx.x; unit < work.units; unit += gridDim.x) {
    const Entry& entry = work.entries[work.entry_of[unit]];
    if (!entry.at.g) continue;
    const int64_t piece = unit - entry.first_unit;
    if constexpr (kTier == kElements) {
      step_elements<kDirection, W, G>(entry, piece);
    } else if constexpr (kTier == kColumns) {
      step_strip<kDirection, W, G>(entry, piece);
    } else {
      const int64_t index = kTier == kWarpRows ? piece * kWarps + threadIdx.x / kWarp : piece;
      if (index >= entry.at.outer) continue;
      const Elements<W, G> row(entry.at, index * entry.at.dim);
      if constexpr (kTier == kWarpRows) {
        step_held_row<kDirection, kVectors>(entry, row, index, WarpGroup{});
      } else if constexpr (kTier == kBlockRows) {
        step_held_row<kDirection, kVectors>(entry, row, index, BlockGroup{});
      } else {
        step_long_row<kDirection, kVectors>(entry, row, index);
      }
    }
  }
}

template <Direction kDirection>
constexpr void fill(Kernels& kernels) {
  using W = SPHERE_W;
  using G = SPHERE_G;
  auto& odd = kernels.at[kDirection][false];
  auto& even = kernels.at[kDirection][true];
  if constexpr (kDirection != kPrevious) {
    odd[kElements] = even[kElements] = step_units<kElements, true, kDirection, W, G>;
  }
  if constexpr (kDirection != kAdam) {  // so far Adam's direction is only for single elements
    odd[kWarpRows] = step_units<kWarpRows, false, kDirection, W, G>;
    even[kWarpRows] = step_units<kWarpRows, true, kDirection, W, G>;
    odd[kBlockRows] = step_units<kBlockRows, false, kDirection, W, G>;
    even[kBlockRows] = step_units<kBlockRows, true, kDirection, W, G>;
    odd[kLongRows] = step_units<kLongRows, false, kDirection, W, G>;
    even[kLongRows] = step_units<kLongRows, true, kDirection, W, G>;
    odd[kColumns] = even[kColumns] = step_units<kColumns, false, kDirection, W, G>;
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
