// Rules that must see the whole tensor first. Every unit sums its part, and whoever comes last adds
// up all parts, in their order, and decides.
#pragma once

#include "long.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {

__device__ __forceinline__ void operator+=(Surveyed& all, const Surveyed& part) {
#pragma unroll
  for (int i = 0; i < 4; ++i) all.sums[i] += part.sums[i];
  all.peak = maximum(all.peak, part.peak);
}

__device__ __forceinline__ Surveyed from_others(const Surveyed* part) {
  return {{from_others(part->sums), from_others(part->sums + 1), from_others(part->sums + 2),
           from_others(part->sums + 3)},
          from_others(&part->peak)};
}

// Makes of what each thread has surveyed what the block has.
__device__ __forceinline__ void gather_in_block(Surveyed& own) {
  const BlockGroup block;
  block.sum(own.sums);
  own.peak = block.largest(own.peak);
}

// And of that, in the block that comes last, what all units have. Returns whether this is the one.
__device__ __forceinline__ bool gather(Surveyed& own, Surveyed* of_units, int64_t unit,
                                       int64_t units, unsigned* surveyed) {
  gather_in_block(own);
  bool last = false;
  if (threadIdx.x == 0) {
    of_units[unit] = own;
    __threadfence();
    last = atomicAdd(surveyed, 1u) == unsigned(units - 1);
  }
  if (!__syncthreads_or(last)) return false;
  __threadfence();
  own = {};
  for (int64_t u = threadIdx.x; u < units; u += kThreads) own += from_others(of_units + u);
  gather_in_block(own);
  return true;
}

// One segment, of which this thread has summed `part`.
template <class Group, class T>
__device__ __forceinline__ void survey_segment(const Group& group, const Gram<double>& part,
                                               bool inside, int rule, const Hyper<T>& h,
                                               Surveyed& own) {
  double v[] = {part.ww, part.wg, part.gg};
  group.sum(v);
  if (!inside || !group.leads()) return;
  Gram<T> gram = {};
  gram.ww = T(v[0]), gram.wg = T(v[1]), gram.gg = T(v[2]);
  own += {{v[0], v[1], v[2], 0}, peak(rule, gram, h)};
}

template <bool kVectors, class W, class G>
__device__ __forceinline__ void survey_rows(const Entry& entry, int64_t unit, Surveyed& own) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector, kChunks = chunks_at_once(sizeof(T), kVector);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const RowGroup group(threads_to_survey(at.dim));
  const int64_t rows = rows_to_survey(at.dim);
  for (int64_t first = 0; first < rows; first += kThreads / group.threads) {
    const int64_t row = unit * rows + first + group.number;
    const bool inside = row < at.outer;
    const Elements<W, G> elements(entry, inside ? row * at.dim : 0, false);
    const auto mine = share_of<int64_t>(kVectors, kVector, group, inside ? at.dim : 0);
    const Gram<double> part =
        sum_of<kNesterov, kLooks, kVectors, true, kChunks, kVector>(elements, mine, h);
    survey_segment(group, part, inside, at.rule, h, own);
  }
}

template <class W, class G>
__device__ __forceinline__ void survey_strip(const Entry& entry, int64_t unit, Surveyed& own) {
  using T = Arithmetic<W>;
  const Hyper<T>& h = hyper_of<T>(entry);
  const StripBundle strip(entry.at, unit);
  const Elements<W, G> column(entry, strip.first, false);
  const Gram<double> part = sum_of<kNesterov, kLooks, false, true, chunks_at_once(sizeof(T), 1), 1>(
      column, strip.whole(), h);
  survey_segment(strip.group, part, strip.inside, entry.at.rule, h, own);
}

// The verdict, from w and g of all segments.
template <class W, class G>
__device__ __forceinline__ void survey(Entry& entry, Surveyed* surveys, int64_t unit) {
  const Segments& at = entry.at;
  Surveyed own;
  if (at.inner > 1) survey_strip<W, G>(entry, unit, own);
  else if (at.dim % Elements<W, G>::kVector == 0) survey_rows<true, W, G>(entry, unit, own);
  else survey_rows<false, W, G>(entry, unit, own);
  const int64_t units = units_to_survey(at.outer, at.dim, at.inner);
  if (!gather(own, surveys + entry.first_survey, unit, units, entry.surveyed)) return;
  if (threadIdx.x != 0) return;
  entry.whole.ww = own.sums[0], entry.whole.wg = own.sums[1], entry.whole.gg = own.sums[2];
  entry.hyper.verdict = verdict(at.rule, entry.whole, own.peak, entry.hyper);
  entry.hyper_in_float.verdict = float(entry.hyper.verdict);
}

// The other sums over the tensor, where the verdict needs them.
template <Direction kDirection, class W, class G>
__device__ __forceinline__ void survey_more(Entry& entry, Surveyed* surveys, int64_t unit) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector,
                kChunks = chunks_at_once(sizeof(T), kVector, kDirection == kAdam);
  const Hyper<T>& h = hyper_of<T>(entry);
  if (!(h.verdict > T(1))) return;
  const int64_t count = entry.at.outer * entry.at.dim * entry.at.inner;
  const int64_t left = count - unit * kSurveyed;
  const Elements<W, G> elements(entry, unit * kSurveyed);
  const int end = left < kSurveyed ? int(left) : kSurveyed;
  const auto mine = share_of<int>(true, kVector, BlockGroup{}, end);
  const Gram<double> part =
      sum_of<kDirection, kLooks, true, false, kChunks, kVector>(elements, mine, h);
  Surveyed own = {{part.wx, part.xx, part.sw, part.sx}};
  const int64_t units = ceil_div(count, kSurveyed);
  if (!gather(own, surveys + entry.first_survey, unit, units, entry.surveyed + 1)) return;
  if (threadIdx.x != 0) return;
  entry.whole.wx = own.sums[0], entry.whole.xx = own.sums[1];
  entry.whole.sw = own.sums[2], entry.whole.sx = own.sums[3];
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
