// One segment: its sums, the rule's decision and the update of its elements, by a warp, by a block,
// or, where segments are columns, by a lane of each warp.
#pragma once

#include "../hyper.h"
#include "memory.cuh"
#include "reduce.cuh"
#include "table.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <class T>
__device__ __forceinline__ const Hyper<T>& hyper_of(const Entry& entry) {
  if constexpr (std::is_same_v<T, double>) return entry.hyper;
  else return entry.hyper_in_float;
}

// The elements of a parameter from number `first` on.
template <class W, class G>
struct Elements {
  using T = Arithmetic<W>;
  static constexpr int kVector = vector_of(sizeof(W), sizeof(G));

  W* w;
  const G* g;
  T* m;  // null where none is kept

  __device__ Elements(const Segments& at, int64_t first)
      : w(static_cast<W*>(at.w) + first),
        g(static_cast<const G*>(at.g) + first),
        m(at.m ? static_cast<T*>(at.m) + first : nullptr) {}

  // The first look: reads w and g, and makes x of m.
  template <Direction kDirection, int kStride, int kCount, class Index>
  __device__ __forceinline__ void read(Index first, Index end, const Hyper<T>& h, T (&w_)[kCount],
                                       T (&x)[kCount], T (&g_)[kCount]) const {
    T m_[kCount] = {};
    load<kStride>(w, first, end, w_);
    load<kStride>(g, first, end, g_);
    if (m) load<kStride>(m, first, end, m_);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      T unused{};
      g_[k] = gradient(g_[k], w_[k], h);
      x[k] = moments<kDirection>(g_[k], m_[k], unused, h);
    }
  }

  template <Direction kDirection, int kStride, int kCount, class Index>
  __device__ __forceinline__ void write(Index first, Index end, const Update<T>& u, T (&w_)[kCount],
                                        T (&x)[kCount], const T (&g_)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const T before = w_[k];
      w_[k] = new_weight<kDirection>(before, x[k], g_[k], u);
      x[k] = new_moment<kDirection>(before, x[k], g_[k], u);
    }
    store<kStride>(w, first, end, w_);
    if (m) store<kStride>(m, first, end, x);
  }
};

// What a thread has of a segment that is read more than once: kCount elements from number `start`
// on, kCount after `step` more, and so on before `end`.
struct Share {
  int64_t start, step, end;
};

// Calls visit(first, w, x, g) for each kCount elements, and fold() after every kPartial elements.
template <Direction kDirection, int kStride, int kCount, class W, class G, class T, class Visit,
          class Fold>
__device__ __forceinline__ void sweep(const Elements<W, G>& segment, const Share& mine,
                                      const Hyper<T>& h, Visit visit, Fold fold) {
  int64_t first = mine.start;
  while (first < mine.end) {
#pragma unroll 2
    for (int i = 0; i < kPartial / kCount && first < mine.end; ++i, first += mine.step) {
      T w[kCount], x[kCount], g[kCount];
      segment.template read<kDirection, kStride>(first, mine.end, h, w, x, g);
      visit(first, w, x, g);
    }
    fold();
  }
}

// What `decide` asks for. Rarely needed, so the elements are read from memory again, one by one.
template <Direction kDirection, class Group, class W, class G, class T, class Of>
__device__ __forceinline__ Measured<kDirection, T> measure(const Group& group,
                                                           const Elements<W, G>& segment,
                                                           const Share& mine, const Hyper<T>& h,
                                                           const Of& of, bool needed) {
  if (!group.any(needed)) return {};
  Measured<kDirection, double> products{};
#pragma unroll 1
  for (int64_t i = mine.start; i < mine.end; i += mine.step) {
    T w[1], x[1], g[1];
    segment.template read<kDirection, 1>(i, mine.end, h, w, x, g);
    add(products, w[0], x[0], g[0], of);
  }
  return rounded<T>(sum(group, products));
}

// A row that stays in registers between its two sweeps.
template <Direction kDirection, bool kVectors, class Group, class W, class G>
__device__ __forceinline__ void step_held_row(const Entry& entry, const Elements<W, G>& row,
                                              int64_t index, const Group& group) {
  using T = Arithmetic<W>;
  constexpr int kSize = Group::kSize, kVector = Elements<W, G>::kVector;
  constexpr int kChunks = held_by(kSize, sizeof(T), kDirection == kPrevious) / kVector;
  constexpr int kStride = stride_of(kVectors, kSize);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const int dim = int(at.dim);
  T* const s = at.s ? static_cast<T*>(at.s) + index : nullptr;
  const T old_s = s ? *global(s) : T(0);

  T w[kChunks][kVector], x[kChunks][kVector];
  Gram<T> gram{};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * kSize * kVector >= dim) break;
    const int first = first_of(kVectors, kVector, kSize, c, group.thread);
    T g[kVector];
    row.template read<kDirection, kStride>(first, dim, h, w[c], x[c], g);
#pragma unroll
    for (int k = 0; k < kVector; ++k) add<kDirection>(gram, w[c][k], x[c][k], g[k]);
  }
  gram = sum<kDirection>(group, gram);

  const auto measured = [&](const auto& of, bool needed) -> Measured<kDirection, T> {
    if constexpr (kDirection == kPrevious) {  // no register is left to hold g
      return measure<kDirection>(group, row, {group.thread, kSize, dim}, h, of, needed);
    } else {
      Landing<T> y{};
      if (!needed) return y;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (c * kSize * kVector >= dim) break;
#pragma unroll
        for (int k = 0; k < kVector; ++k) add(y, w[c][k], x[c][k], T(0), of);
      }
      return sum(group, y);
    }
  };
  const Update<T> u = decide<kDirection>(at.rule, gram, old_s, h, measured);
  if (s && group.leads()) *global(s) = u.s;

#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * kSize * kVector >= dim) break;
    const int first = first_of(kVectors, kVector, kSize, c, group.thread);
    T g[kVector] = {};
    if constexpr (kDirection == kPrevious) {
      load<kStride>(row.g, first, dim, g);
#pragma unroll
      for (int k = 0; k < kVector; ++k) g[k] = gradient(g[k], w[c][k], h);
    }
    row.template write<kDirection, kStride>(first, dim, u, w[c], x[c], g);
  }
}

template <Direction kDirection, int kStride, int kCount, class Group, class W, class G>
__device__ __forceinline__ void step_read_twice(const Entry& entry, const Elements<W, G>& segment,
                                                int64_t index, const Group& group,
                                                const Share& mine, const Share& one_by_one) {
  using T = Arithmetic<W>;
  using Part = T[kCount];
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  T* const s = at.s && mine.end > 0 ? static_cast<T*>(at.s) + index : nullptr;
  const T old_s = s ? *global(s) : T(0);

  // Sums run in T over kPartial elements, whose sums are then added in double.
  Gram<double> total{};
  Gram<T> part{};
  sweep<kDirection, kStride, kCount>(
      segment, mine, h,
      [&](int64_t, const Part& w, const Part& x, const Part& g) {
#pragma unroll
        for (int k = 0; k < kCount; ++k) add<kDirection>(part, w[k], x[k], g[k]);
      },
      [&] {
        total += part;
        part = {};
      });
  const Gram<T> gram = rounded<T>(sum<kDirection>(group, total));

  const auto measured = [&](const auto& of, bool needed) {
    return measure<kDirection>(group, segment, one_by_one, h, of, needed);
  };
  const Update<T> u = decide<kDirection>(at.rule, gram, old_s, h, measured);
  if (s && group.leads()) *global(s) = u.s;

  sweep<kDirection, kStride, kCount>(
      segment, mine, h,
      [&](int64_t first, Part& w, Part& x, const Part& g) {
        segment.template write<kDirection, kStride>(first, mine.end, u, w, x, g);
      },
      [] {});
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
