// One segment, or a part of one, on one core: the sums of its elements and their update.
#pragma once

// Before math.h, whose templates find a vector's sqrt only if it is declared before them.
#include "lanes.h"

#include "../hyper.h"
#include "../math.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// One contiguous stretch of a parameter: a row, a block of one, or elements that share nothing.
template <class W, class G>
struct Stretch {
  using T = std::conditional_t<std::is_same_v<W, double>, double, float>;
  W* w;
  const G* g;
  T* m;
  T* v;
  int64_t n;
  T* x;  // room for Adam's direction, which the second sweep then need not divide for; or null

  Stretch(const Segments& at, int64_t first, int64_t count, T* room = nullptr)
      : w(static_cast<W*>(at.w) + first),
        g(static_cast<const G*>(at.g) + first),
        m(at.m ? static_cast<T*>(at.m) + first : nullptr),
        v(at.v ? static_cast<T*>(at.v) + first : nullptr),
        n(count),
        x(room) {}
};

// An element, its moments after move 1.
template <class V>
struct Loaded {
  V w, g, x, m, v;
};

template <Direction kDirection, class V, class W, class G, class T>
SPHERE_INLINE Loaded<V> read(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h) {
  Loaded<V> e{};
  e.w = load<V>(row.w + i);
  e.g = gradient(load<V>(row.g + i), e.w, h);
  if (kDirection == kAdam || row.m) e.m = load<V>(row.m + i);
  if constexpr (kDirection == kAdam) e.v = load<V>(row.v + i);
  e.x = moments<kDirection>(e.g, e.m, e.v, h);
  return e;
}

// The first sweep's look at an element. Where x is made of the new moments they are left in memory,
// so that the second sweep need not read g again.
template <Direction kDirection, class V, class W, class G, class T>
SPHERE_INLINE Loaded<V> read_first(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h) {
  const Loaded<V> e = read<kDirection, V>(row, i, h);
  if constexpr (kDirection == kMoment) {
    if (row.m) store(row.m + i, e.m);
  }
  if constexpr (kDirection == kAdam) {
    store(row.m + i, e.m);
    store(row.v + i, e.v);
    if (row.x) store(row.x + i, e.x);
  }
  return e;
}

// The second sweep's.
template <Direction kDirection, class V, class W, class G, class T>
SPHERE_INLINE Loaded<V> read_again(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h) {
  if constexpr (kDirection == kMoment) {
    if (row.m) return {load<V>(row.w + i), V{}, load<V>(row.m + i), V{}, V{}};
  }
  if constexpr (kDirection == kAdam) {
    const V w = load<V>(row.w + i);
    if (row.x) return {w, V{}, load<V>(row.x + i), V{}, V{}};
    const V g = h.x_g == T(0) ? V{} : gradient(load<V>(row.g + i), w, h);
    const V x = adam_direction(g, load<V>(row.m + i), load<V>(row.v + i), h);
    return {w, g, x, V{}, V{}};
  }
  return read<kDirection, V>(row, i, h);
}

template <Direction kDirection, class V, class W, class G, class T, class C>
SPHERE_INLINE void write(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h,
                         const Update<C>& u) {
  const Loaded<V> e = read_again<kDirection, V>(row, i, h);
  store(row.w + i, new_weight<kDirection>(e.w, e.x, e.g, u));
  if constexpr (kMakesMoment<kDirection>) {
    if (row.m) store(row.m + i, new_moment<kDirection>(e.w, e.x, e.g, u));
  } else if constexpr (kDirection != kAdam) {
    if (row.m) store(row.m + i, e.m);
  }
}

template <class V>
SPHERE_INLINE void fold(Gram<double>& total, const Gram<V>& part) {
  total.ww += sum(part.ww);
  total.wx += sum(part.wx);
  total.xx += sum(part.xx);
  total.gg += sum(part.gg);
  total.wg += sum(part.wg);
  total.gx += sum(part.gx);
  total.sw += sum(part.sw);
  total.sx += sum(part.sx);
}

// What a sweep adds up of element i, each to its Gram. By value, here and below: what a loop stores
// could be part of what a reference refers to, which would be loaded again for every vector.
template <Direction kDirection, class W, class G>
struct Step {  // the first sweep of a step
  Stretch<W, G> row;
  Hyper<typename Stretch<W, G>::T> h;
  template <class V>
  SPHERE_INLINE void operator()(Gram<V>& gram, int64_t i) const {
    const Loaded<V> e = read_first<kDirection, V>(row, i, h);
    add<kDirection>(gram, e.w, e.x, e.g);
  }
};
template <Direction kDirection, class W, class G>
struct Peek {  // the same, and nothing is written
  Stretch<W, G> row;
  Hyper<typename Stretch<W, G>::T> h;
  template <class V>
  SPHERE_INLINE void operator()(Gram<V>& gram, int64_t i) const {
    const Loaded<V> e = read<kDirection, V>(row, i, h);
    add<kDirection>(gram, e.w, e.x, e.g);
  }
};
template <class W, class G>
struct Glance {  // w and g alone
  Stretch<W, G> row;
  Hyper<typename Stretch<W, G>::T> h;
  template <class V>
  SPHERE_INLINE void operator()(Gram<V>& gram, int64_t i) const {
    const V w = load<V>(row.w + i);
    const V g = gradient(load<V>(row.g + i), w, h);
    gram.ww += w * w;
    gram.wg += w * g;
    gram.gg += g * g;
  }
};

// Calls at(i, V{}) for the vectors of n elements and at(i, T{}) for the rest.
template <class T, class At>
SPHERE_INLINE void sweep(int64_t first, int64_t n, At at) {
  int64_t i = first;
  for (; i + kLanes<T> <= n; i += kLanes<T>) at(i, Vector<T>{});
  for (; i < n; ++i) at(i, T{});
}

// Sums run in T over so many elements, whose partial sums are then added in double: as accurate for
// a row of a million as for one of a thousand. In float fewer, 32 in a lane: of numbers that are
// all the same, as in the gradient of w.sum(), every addition is off in the same direction, and 128
// of them by 1e-6.
template <class T>
inline constexpr int64_t kPartial = std::is_same_v<T, double> ? 1024 : 256;

// The sums of the first kHead elements of a row, for gram_of to go on from.
inline constexpr int64_t kHead = 128;

template <class T, class Look>
SPHERE_INLINE Gram<Vector<T>> head_of(const Look look) {
  Gram<Vector<T>> lanes{};
  for (int64_t i = 0; i < kHead; i += kLanes<T>) look(lanes, i);
  return lanes;
}

// Of the n elements of look.row. `lanes` are the sums of the first `done` of them.
template <class T, class Look>
SPHERE_INLINE Gram<double> gram_of(const Look look, Gram<Vector<T>> lanes = Gram<Vector<T>>(),
                                   int64_t done = 0) {
  const int64_t n = look.row.n;
  Gram<double> total{};
  for (int64_t first = 0; first < n; first += kPartial<T>) {
    const int64_t last = first + kPartial<T> < n ? first + kPartial<T> : n;
    Gram<T> rest{};
    sweep<T>(first + done, last, [&](int64_t i, auto kind) __attribute__((always_inline)) {
      if constexpr (std::is_same_v<decltype(kind), T>) look(rest, i);
      else look(lanes, i);
    });
    fold(total, lanes);
    fold(total, rest);
    lanes = Gram<Vector<T>>{}, done = 0;
  }
  return total;
}

// What `decide` has measured: the Update of a step, or the radial part of the gradient.
template <Direction kDirection, class T>
using Of = std::conditional_t<kDirection == kPrevious, T, Update<T>>;

SPHERE_INLINE Tangent<double> folded(const Tangent<Double4>& a) {
  return {sum(a.hh), sum(a.hx)};
}
SPHERE_INLINE Landing<double> folded(const Landing<Double4>& a) {
  return {sum(a.yy), sum(a.wy), sum(a.xy)};
}

// The products that `decide` asks for, of elements `stride` apart; neighbours are vectorized.
template <Direction kDirection, class W, class G, class T>
Measured<kDirection, T> measured_of(const Stretch<W, G>& row, int64_t stride, const Hyper<T>& h,
                                    const Of<kDirection, T>& of) {
  Measured<kDirection, double> total{};
  for (int64_t first = 0; first < row.n; first += kPartial<double>) {
    const int64_t last = first + kPartial<double> < row.n ? first + kPartial<double> : row.n;
    Measured<kDirection, Double4> lanes{};
    Measured<kDirection, double> rest{};
    const auto at = [&](int64_t i, auto kind) __attribute__((always_inline)) {
      using V = decltype(kind);
      const Loaded<V> e = read_again<kDirection, V>(row, i * stride, h);
      if constexpr (std::is_same_v<V, T>) {
        add(rest, e.w, e.x, e.g, of);
      } else {
        const auto w = in_double(e.w), x = in_double(e.x), g = in_double(e.g);
        for (int k = 0; k < int(sizeof w / sizeof(Double4)); ++k) {
          add(lanes, w.part[k], x.part[k], g.part[k], of);
        }
      }
    };
    if (stride == 1) {
      sweep<T>(first, last, at);
    } else {
      for (int64_t i = first; i < last; ++i) at(i, T{});
    }
    total += folded(lanes);
    total += rest;
  }
  return rounded<T>(total);
}

template <Direction kDirection, class W, class G, class T>
SPHERE_INLINE void update_stretch(const Stretch<W, G> row, const Hyper<T> h, const Update<T> u) {
  const auto all = [&]() __attribute__((always_inline)) {
    sweep<T>(0, row.n, [&](int64_t i, auto kind) __attribute__((always_inline)) {
      write<kDirection, decltype(kind)>(row, i, h, u);
    });
  };
  // So that no element asks.
  if (kDirection == kAdam ? row.x : row.m) all();
  else all();
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
