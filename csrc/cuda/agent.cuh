// A row and the threads that hold it: its sums, the rule's decision and its update.
#pragma once

#include "../hyper.h"
#include "elements.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <class T>
__device__ __forceinline__ const Hyper<T>& hyper_of(const Entry& entry) {
  if constexpr (std::is_same_v<T, double>) return entry.hyper;
  else return entry.hyper_in_float;
}

// What `decide` asks for. Rarely needed, so the elements are read from memory again, one by one,
// after the first reading.
template <Direction kDirection, class Group, class W, class G, class T, class Of>
__device__ __forceinline__ Measured<kDirection, T> measure(const Group& group,
                                                           const Elements<W, G>& segment,
                                                           const Share<int64_t>& mine,
                                                           const Hyper<T>& h, const Of& of,
                                                           bool needed) {
  if (!group.any(needed)) return {};
  Measured<kDirection, double> products{};
#pragma unroll 1
  for (int64_t i = 0; mine.first(i) < mine.end; ++i) {
    T w[1][1], x[1][1], g[1][1];
    segment.template read<kDirection, kReadingBetween<kDirection>, false, false, 1>(mine, i, 1, h,
                                                                                    w, x, g);
    add(products, w[0][0], x[0][0], g[0][0], of);
  }
  return rounded<T>(sum(group, products));
}

// What is kept of a segment: asked for long before the rule needs it.
template <Direction kDirection, class T>
struct Kept {
  T* s;
  T old_s, radius;

  // Nothing, where a thread has no segment.
  __device__ __forceinline__ Kept(const Segments& at, int64_t segment, bool inside)
      : s(inside && at.s ? static_cast<T*>(at.s) + segment : nullptr),
        old_s(s ? *global(s) : T(0)),
        radius(T(0)) {
    if constexpr (!kMakesMoment<kDirection>) {
      if (inside && at.radius) radius = *global(static_cast<const T*>(at.radius) + segment);
    }
  }
};

// Move 3 on one segment, or, where the verdict was that the tensor is one, on all of it.
template <Direction kDirection, class T, class Measure>
__device__ __forceinline__ Update<T> decide(const Entry& entry, Gram<T> gram,
                                            const Kept<kDirection, T>& kept,
                                            const Measure& measure) {
  const Hyper<T>& h = hyper_of<T>(entry);
  if constexpr (!kMakesMoment<kDirection>) {
    if (h.verdict > T(1)) gram = rounded<T>(entry.whole);
    gram.radius = kept.radius;
  }
  return decide<kDirection>(entry.at.rule, gram, kept.old_s, h, measure);
}

// A row that stays in its group's registers between its two sweeps. A group without a row does
// along what all do.
template <Direction kDirection, bool kVectors, class W, class G, class Group>
__device__ __forceinline__ void step_held_row(const Entry& entry, int64_t index,
                                              const Group& group) {
  using T = Arithmetic<W>;
  // Fewer where each has an address of its own, of which four arrays need many.
  constexpr bool kSpares = kDirection == kAdam && !kVectors;
  constexpr int kCount = Elements<W, G>::kVector / (kSpares ? 2 : 1);
  constexpr int kChunks = held_by(sizeof(T), kDirection) / kCount;
  constexpr int kBatch = chunks_at_once(sizeof(T), kCount, kDirection == kAdam);
  static_assert(kChunks % kBatch == 0);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const bool inside = index < at.outer;
  const int dim = inside ? int(at.dim) : 0;
  const Elements<W, G> row(entry, inside ? index * at.dim : 0);
  const Share<int> mine = share_of(kVectors, kCount, group, dim);
  const Kept<kDirection, T> kept(at, index, inside);

  T w[kChunks][kCount], x[kChunks][kCount];
  Gram<T> gram{};
#pragma unroll
  for (int c = 0; c < kChunks; c += kBatch) {
    if (c * mine.step >= dim) break;
    const int chunks = kChunks - c < kBatch ? kChunks - c : kBatch;
    T g[kBatch][kCount];
    row.template read<kDirection, kUpdates, kVectors, true, kBatch>(mine, c, chunks, h, w + c,
                                                                    x + c, g);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (b >= chunks) break;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        add<kDirection>(gram, w[c + b][k], x[c + b][k], g[b][k]);
      }
    }
  }
  gram = sum<kDirection>(group, gram);

  const auto measured = [&](const auto& of, bool needed) -> Measured<kDirection, T> {
    if constexpr (kDirection == kPrevious) {  // no register is left to hold g
      return measure<kDirection>(group, row, one_by_one(group, dim), h, of, needed);
    } else {
      Landing<T> y{};
      if (!group.any(needed)) return y;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (c / kBatch * kBatch * mine.step >= dim) break;
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          const bool inside = kMakesMoment<kDirection> || mine.first(c) + k * mine.stride < dim;
          if (inside) add(y, w[c][k], x[c][k], T(0), of);  // a_1 is also where no element is
        }
      }
      return sum(group, y);
    }
  };
  const Update<T> u = decide(entry, gram, kept, measured);
  if (inside && at.s && group.leads()) *global(static_cast<T*>(at.s) + index) = u.s;

  const Share<int> again = anew(mine);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * again.step >= again.end) break;
    T g[1][kCount] = {};
    if constexpr (kDirection == kPrevious) {
      row.template read_gradient<kVectors>(again, c, h, w[c], g[0]);
    }
    row.template write<kDirection, kVectors, true, 1>(again, c, 1, u, w + c, x + c, g);
  }
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
