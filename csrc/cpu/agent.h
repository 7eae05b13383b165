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

  Stretch(const Segments& at, int64_t first, int64_t count)
      : w(static_cast<W*>(at.w) + first),
        g(static_cast<const G*>(at.g) + first),
        m(at.m ? static_cast<T*>(at.m) + first : nullptr),
        v(at.v ? static_cast<T*>(at.v) + first : nullptr),
        n(count) {}
};

template <class V>
struct Loaded {
  V w, g, x;
};

// The first sweep's look at an element. What it makes of m is left in m, so that the second sweep
// need not read g again.
template <Direction kDirection, class V, class W, class G, class T>
SPHERE_INLINE Loaded<V> read(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h) {
  const V w = load<V>(row.w + i);
  const V g = gradient(load<V>(row.g + i), w, h);
  V m = row.m ? load<V>(row.m + i) : V{};
  V unused{};
  const V x = moments<kDirection>(g, m, unused, h);
  if (kDirection == kMoment && row.m) store(row.m + i, m);
  return {w, g, x};
}

// The second sweep's.
template <Direction kDirection, class V, class W, class G, class T>
SPHERE_INLINE Loaded<V> read_again(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h) {
  if (kDirection == kMoment && row.m) return {load<V>(row.w + i), V{}, load<V>(row.m + i)};
  return read<kDirection, V>(row, i, h);
}

template <Direction kDirection, class V, class W, class G, class T, class C>
SPHERE_INLINE void write(const Stretch<W, G>& row, int64_t i, const Hyper<T>& h,
                         const Update<C>& u) {
  const Loaded<V> e = read_again<kDirection, V>(row, i, h);
  store(row.w + i, new_weight<kDirection>(e.w, e.x, e.g, u));
  if constexpr (kMakesMoment<kDirection>) {
    if (row.m) store(row.m + i, new_moment<kDirection>(e.w, e.x, e.g, u));
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
}

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

// By value, here and below: what a loop stores could be part of what a reference refers to, which
// would be loaded again for every vector.
template <Direction kDirection, class W, class G, class T>
SPHERE_INLINE Gram<Vector<T>> head_of(const Stretch<W, G> row, const Hyper<T> h) {
  Gram<Vector<T>> lanes{};
  for (int64_t i = 0; i < kHead; i += kLanes<T>) {
    const Loaded<Vector<T>> e = read<kDirection, Vector<T>>(row, i, h);
    add<kDirection>(lanes, e.w, e.x, e.g);
  }
  return lanes;
}

// `lanes` are the sums of the first `done` elements.
template <Direction kDirection, class W, class G, class T>
SPHERE_INLINE Gram<double> gram_of(const Stretch<W, G> row, const Hyper<T> h,
                                   Gram<Vector<T>> lanes = Gram<Vector<T>>(), int64_t done = 0) {
  Gram<double> total{};
  for (int64_t first = 0; first < row.n; first += kPartial<T>) {
    const int64_t last = first + kPartial<T> < row.n ? first + kPartial<T> : row.n;
    Gram<T> rest{};
    sweep<T>(first + done, last, [&](int64_t i, auto kind) __attribute__((always_inline)) {
      using V = decltype(kind);
      const Loaded<V> e = read<kDirection, V>(row, i, h);
      if constexpr (std::is_same_v<V, T>) add<kDirection>(rest, e.w, e.x, e.g);
      else add<kDirection>(lanes, e.w, e.x, e.g);
    });
    fold(total, lanes);
    fold(total, rest);
    lanes = Gram<Vector<T>>{}, done = 0;
  }
  return total;
}

// The products that `decide` asks for; rarely needed, so not vectorized.
template <Direction kDirection, class W, class G, class T, class Of>
Measured<kDirection, T> measured_of(const Stretch<W, G>& row, int64_t stride, const Hyper<T>& h,
                                    const Of& of) {
  Measured<kDirection, double> total{};
  for (int64_t first = 0; first < row.n; first += kPartial<double>) {
    const int64_t last = first + kPartial<double> < row.n ? first + kPartial<double> : row.n;
    Measured<kDirection, double> part{};
    for (int64_t i = first; i < last; ++i) {
      const Loaded<T> e = read_again<kDirection, T>(row, i * stride, h);
      add(part, e.w, e.x, e.g, of);
    }
    total += part;
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
  if (row.m) all();  // so that no element asks
  else all();
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
