// One segment: its sums, the rule's decision and the update of its elements, by a warp, by a block,
// or, where segments are columns, by a lane of each warp.
#pragma once

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

  Array<W> w;
  Array<const G> g;
  Array<T> m;

  __device__ Elements(const Segments& at, int64_t first, bool vectors)
      : w(static_cast<W*>(at.w) + first, vectors),
        g(static_cast<const G*>(at.g) + first, vectors),
        m(at.m ? static_cast<T*>(at.m) + first : nullptr, vectors) {}

  // The first look: reads w and g, and makes x of m.
  template <Direction kDirection, int kCount, class Index>
  __device__ __forceinline__ void read(Slots<Index> at, Index end, const Hyper<T>& h,
                                       T (&w_)[kCount], T (&x)[kCount], T (&g_)[kCount]) const {
    T m_[kCount] = {};
    w.load(at, end, w_);
    g.load(at, end, g_);
    if (m.data) m.load(at, end, m_);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      T unused{};
      g_[k] = gradient(g_[k], w_[k], h);
      x[k] = moments<kDirection>(g_[k], m_[k], unused, h);
    }
  }

  template <Direction kDirection, int kCount, class Index>
  __device__ __forceinline__ void write(Slots<Index> at, Index end, const Update<T>& u,
                                        T (&w_)[kCount], T (&x)[kCount],
                                        const T (&g_)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const T before = w_[k];
      w_[k] = new_weight<kDirection>(before, x[k], g_[k], u);
      x[k] = new_moment<kDirection>(before, x[k], g_[k], u);
    }
    w.store(at, end, w_);
    if (m.data) m.store(at, end, x);
  }
};

template <int kCount, class T, class S>
__device__ __forceinline__ void add(Landing<S>& y, const T (&w)[kCount], const T (&x)[kCount],
                                     const Update<T>& u) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const S p = u.a_w * w[k] + u.a_x * x[k];
    y.yy += p * p;
    y.wy += p * w[k];
    y.xy += p * x[k];
  }
}

template <class T, class From>
__device__ __forceinline__ Gram<T> rounded(const Gram<From>& a) {
  return {T(a.ww), T(a.wx), T(a.xx), T(a.wg), T(a.gg), T(a.gx)};
}

// A row that stays in registers between its two sweeps.
template <Direction kDirection, class Group, class W, class G>
__device__ __forceinline__ void step_held_row(const Entry& entry, int64_t index,
                                              const Group& group) {
  using Row = Elements<W, G>;
  using T = typename Row::T;
  constexpr int kVector = Row::kVector, kChunks = kHeldBytes / sizeof(T) / kVector;
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const int dim = int(at.dim);
  const bool vectors = dim % kVector == 0;
  const Row row(at, index * dim, vectors);
  T* const s = at.s ? static_cast<T*>(at.s) + index : nullptr;
  const T old_s = s ? *s : T(0);

  T w[kChunks][kVector], x[kChunks][kVector];
  Gram<T> gram{};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * Group::kSize * kVector >= dim) break;
    T g[kVector];
    row.template read<kDirection>(slots_at(vectors, kVector, Group::kSize, c, group.thread), dim, h,
                                  w[c], x[c], g);
#pragma unroll
    for (int k = 0; k < kVector; ++k) add<kDirection>(gram, w[c][k], x[c][k], g[k]);
  }
  gram = sum<kDirection>(group, gram);

  const auto measure = [&](const Update<T>& u, bool needed) {
    Landing<T> y{};
    if (!needed) return y;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c * Group::kSize * kVector < dim) add(y, w[c], x[c], u);
    }
    return sum(group, y);
  };
  const Update<T> u = decide(at.rule, gram, old_s, h, measure);
  if (s && group.leads()) *s = u.s;

#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * Group::kSize * kVector >= dim) break;
    const auto slots = slots_at(vectors, kVector, Group::kSize, c, group.thread);
    T g[kVector] = {};
    if constexpr (kDirection == kPrevious) {  // no register is left to hold it
      row.g.load(slots, dim, g);
#pragma unroll
      for (int k = 0; k < kVector; ++k) g[k] = gradient(g[k], w[c][k], h);
    }
    row.template write<kDirection>(slots, dim, u, w[c], x[c], g);
  }
}

// Calls visit(w, x, g, slots) for a thread's elements, and fold() after every kPartial of them.
template <Direction kDirection, int kCount, class W, class G, class T, class SlotsOf, class Visit,
          class Fold>
__device__ __forceinline__ void sweep(const Elements<W, G>& segment, int64_t chunks, int64_t end,
                                      const Hyper<T>& h, SlotsOf slots_of, Visit visit, Fold fold) {
  constexpr int kBetween = kPartial / kCount;
  for (int64_t first = 0; first < chunks; first += kBetween) {
    const int64_t last = first + kBetween < chunks ? first + kBetween : chunks;
    for (int64_t c = first; c < last; ++c) {
      T w[kCount], x[kCount], g[kCount];
      const Slots<int64_t> at = slots_of(c);
      segment.template read<kDirection>(at, end, h, w, x, g);
      visit(w, x, g, at);
    }
    fold();
  }
}

// A segment that its threads read twice: kCount elements in each of the thread's `chunks`.
template <Direction kDirection, int kCount, class Group, class W, class G, class SlotsOf>
__device__ __forceinline__ void step_read_twice(const Entry& entry, const Elements<W, G>& segment,
                                                int64_t index, const Group& group, int64_t chunks,
                                                int64_t end, SlotsOf slots_of) {
  using T = typename Elements<W, G>::T;
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  T* const s = at.s && chunks > 0 ? static_cast<T*>(at.s) + index : nullptr;
  const T old_s = s ? *s : T(0);
  const auto nothing = [] {};

  Gram<double> total{};
  Gram<T> part{};
  sweep<kDirection, kCount>(
      segment, chunks, end, h, slots_of,
      [&](const T(&w)[kCount], const T(&x)[kCount], const T(&g)[kCount], const auto&) {
#pragma unroll
        for (int k = 0; k < kCount; ++k) add<kDirection>(part, w[k], x[k], g[k]);
      },
      [&] {
        total = {total.ww + part.ww, total.wx + part.wx, total.xx + part.xx,
                 total.wg + part.wg, total.gg + part.gg, total.gx + part.gx};
        part = {};
      });
  const Gram<T> gram = rounded<T>(sum<kDirection>(group, total));

  const auto measure = [&](const Update<T>& u, bool needed) -> Landing<T> {
    if (!group.any(needed)) return {};
    Landing<double> y{};
    sweep<kDirection, kCount>(
        segment, chunks, end, h, slots_of,
        [&](const T(&w)[kCount], const T(&x)[kCount], const T(&)[kCount], const auto&) {
          add(y, w, x, u);
        },
        nothing);
    y = sum(group, y);
    return {T(y.yy), T(y.wy), T(y.xy)};
  };
  const Update<T> u = decide(at.rule, gram, old_s, h, measure);
  if (s && group.leads()) *s = u.s;

  sweep<kDirection, kCount>(
      segment, chunks, end, h, slots_of,
      [&](T(&w)[kCount], T(&x)[kCount], const T(&g)[kCount], const auto& slots) {
        segment.template write<kDirection>(slots, end, u, w, x, g);
      },
      nothing);
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
