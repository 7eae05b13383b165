// The kernels of one pair of dtypes, which SPHERE_W, SPHERE_G and SPHERE_KERNELS name. A block
// takes one unit of work after another.
#include "step.cuh"

#include "agent.cuh"
#include "long.cuh"
#include "survey.cuh"
#include "tile.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {
namespace {

// Single elements: no inner products, so nothing is shared.
template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_elements(const Entry& entry, int64_t turn) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector;
  constexpr int kTurn = elements_in_turn(sizeof(T), kVector), kChunks = kTurn / kThreads / kVector;
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const Elements<W, G> all(entry, turn * kTurn);
  const int64_t left = at.outer - turn * kTurn;
  const int thread = int(threadIdx.x);
  const Share<int> mine = {thread * kVector, kThreads * kVector, 1,
                           left < kTurn ? int(left) : kTurn};
  T w[kChunks][kVector], x[kChunks][kVector], g[kChunks][kVector];
  all.template read<kDirection, kUpdates, true, false, kChunks>(mine, 0, kChunks, h, w, x, g);
  const Update<T> u = step<kDirection>(at.rule, Gram<T>{}, T(0), h);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      const T before = w[c][k];
      w[c][k] = new_weight<kDirection>(before, x[c][k], g[c][k], u);
      if constexpr (kDirection == kPrevious) {
        x[c][k] = new_moment<kDirection>(before, x[c][k], g[c][k], u);
      }
    }
  }
  all.template put<kDirection, true, false, kChunks>(mine, 0, kChunks, w, x);
}

// Columns that are read twice.
template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_strip(const Entry& entry, int64_t number) {
  using T = Arithmetic<W>;
  constexpr int kChunks = chunks_at_once(sizeof(T), 1, kDirection == kAdam);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const StripBundle strip(at, number);
  const Elements<W, G> column(entry, strip.first);
  const Share<int64_t> mine = strip.whole();
  const Kept<kDirection, T> kept(at, strip.segment, strip.inside);
  const Gram<T> gram = rounded<T>(sum<kDirection>(
      strip.group,
      sum_of<kDirection, kFirstReading<kDirection>, false, true, kChunks, 1>(column, mine, h)));
  const auto measured = [&](const auto& of, bool needed) {
    return measure<kDirection>(strip.group, column, mine, h, of, needed);
  };
  const Update<T> u = decide(entry, gram, kept, measured);
  if (kept.s && strip.group.leads()) *global(kept.s) = u.s;
  update_of<kDirection, false, kChunks, 1>(column, mine, h, u);
}

// Calls step(entry, piece) for this block's share of the units, where every block has as many.
template <Phase kPhase = kSteps, class Step>
__device__ __forceinline__ void each_unit(const WorkList& work, const Step& step) {
  for (unsigned unit = blockIdx.x; unit < work.units; unit += gridDim.x) {
    Entry& entry = work.entries[work.entry_of[unit]];
    if (!entry.rests) step(entry, unit - entry.first_unit[kPhase]);
  }
}

// Likewise, in the order in which blocks come for units: one that waits for another unit knows that
// it has been taken before.
template <class Step>
__device__ __forceinline__ void each_taken_unit(const WorkList& work, int shared_at,
                                                const Step& step) {
  auto* const taken = reinterpret_cast<unsigned*>(dynamic_shared<char>() + shared_at);
  unsigned* const next = work.exchange.next;
  const bool takes = threadIdx.x == 0;
  unsigned mine = takes ? atomicAdd(next, 1u) : 0;
  for (;;) {
    if (takes) *taken = mine;
    __syncthreads();
    const unsigned unit = *taken;
    __syncthreads();  // before the next is written there
    if (unit >= work.units) return;
    if (takes) mine = atomicAdd(next, 1u);  // long before it is needed
    const Entry& entry = work.entries[work.entry_of[unit]];
    if (!entry.rests) step(entry, unit - entry.first_unit[kSteps]);
  }
}

// Small segments, so that a model of many small tensors is few launches.
template <Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) small_units(WorkList work) {
  each_unit(work, [](const Entry& entry, int64_t piece) {
    if (entry.tier == kTileRows) step_tile<kDirection, W, G>(entry, piece);
    else if (entry.direction == kAdam) step_elements<kAdam, W, G>(entry, piece);
    else if constexpr (kDirection != kAdam) step_elements<kDirection, W, G>(entry, piece);
  });
}

template <Direction kDirection, bool kVectors, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) row_units(WorkList work) {
  each_unit(work, [](const Entry& entry, int64_t piece) {
    const RowGroup group(entry.shared_by);
    const int64_t row = piece * (kThreads / group.threads) + group.number;
    step_held_row<kDirection, kVectors, W, G>(entry, row, group);
  });
}

template <Direction kDirection, bool kVectors, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    cluster_units([[maybe_unused]] WorkList work) {
#ifdef SPHERE_CLUSTERS
  each_unit(work, [](const Entry& entry, int64_t piece) {
    step_held_row<kDirection, kVectors, W, G>(entry, piece / entry.shared_by, ClusterGroup{});
  });
#else
  __trap();  // see CudaSteps::lay_out, which asks what the code was compiled for
#endif
}

template <Direction kDirection, bool kVectors, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) long_row_units(WorkList work) {
  each_taken_unit(work, shared_bytes(kLongRows, sizeof(Arithmetic<W>)) - 16,
                  [&](const Entry& entry, int64_t turn) {
                    take_turn<kDirection, kVectors, RowBundle<kVectors>, W, G>(entry, work.exchange,
                                                                               turn);
                  });
}

template <Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) column_units(WorkList work) {
  each_unit(work,
            [](const Entry& entry, int64_t strip) { step_strip<kDirection, W, G>(entry, strip); });
}

template <Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) long_column_units(WorkList work) {
  each_taken_unit(work, shared_bytes(kLongColumns, sizeof(Arithmetic<W>)) - 16,
                  [&](const Entry& entry, int64_t turn) {
                    take_turn<kDirection, false, StripBundle, W, G>(entry, work.exchange, turn);
                  });
}

// Verdicts, from w and g.
template <class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) survey_units(WorkList work) {
  each_unit<kSurveys>(
      work, [&](Entry& entry, int64_t unit) { survey<W, G>(entry, work.exchange.surveys, unit); });
}

template <Direction kDirection, class W, class G>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) survey_more_units(WorkList work) {
  each_unit<kSurveysMore>(work, [&](Entry& entry, int64_t unit) {
    survey_more<kDirection, W, G>(entry, work.exchange.surveys, unit);
  });
}

using W = SPHERE_W;
using G = SPHERE_G;

template <Direction kDirection>
constexpr void fill(Kernels& kernels) {
  kernels.small[kDirection] = small_units<kDirection, W, G>;
  kernels.rows[kDirection][false] = row_units<kDirection, false, W, G>;
  kernels.rows[kDirection][true] = row_units<kDirection, true, W, G>;
  kernels.clusters[kDirection][false] = cluster_units<kDirection, false, W, G>;
  kernels.clusters[kDirection][true] = cluster_units<kDirection, true, W, G>;
  kernels.long_rows[kDirection][false] = long_row_units<kDirection, false, W, G>;
  kernels.long_rows[kDirection][true] = long_row_units<kDirection, true, W, G>;
  kernels.columns[kDirection] = column_units<kDirection, W, G>;
  kernels.long_columns[kDirection] = long_column_units<kDirection, W, G>;
  if constexpr (!kMakesMoment<kDirection>) {
    kernels.surveys_more[kDirection] = survey_more_units<kDirection, W, G>;
  }
}

}  // namespace
}  // namespace SPHERE_ISA

extern const Kernels SPHERE_KERNELS = [] {
  Kernels kernels = {};
  kernels.surveys = survey_units<W, G>;
  fill<kMoment>(kernels);
  fill<kPrevious>(kernels);
  fill<kAdam>(kernels);
  fill<kNesterov>(kernels);
  return kernels;
}();

}  // namespace sphere_fused
