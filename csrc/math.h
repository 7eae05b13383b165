// The elementwise half of every optimizer, written once: V is a number on a GPU and a vector of
// numbers on a CPU, T the type the arithmetic is done in.
#pragma once

#include <type_traits>

#include "rules.gen.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// The gradient as the optimizer sees it; the one in memory is never changed. Multiplied, because a
// division per element is slow: a scale is normally a power of two, for which both are exact, and
// for another one the reciprocal adds one rounding.
template <class V, class T>
SPHERE_INLINE V gradient(V g, V w, const Hyper<T>& h) {
  return h.unscale * g + h.l2 * w;
}

// Those that move 4 leaves m to, and whose rules see more of a segment.
template <Direction kDirection>
inline constexpr bool kMakesMoment = kDirection == kMoment || kDirection == kPrevious;

template <class V>
SPHERE_INLINE V sign(V a) {
  return a > V{} ? V{} + 1.0f : a < V{} ? V{} - 1.0f : V{};
}

// x of what move 1 has left of m and v.
template <class V, class T>
SPHERE_INLINE V adam_direction(V g, V m, V v, const Hyper<T>& h) {
  return (h.x_m * m + h.x_g * g) / (sqrt(v) + h.x_eps);
}

// Move 1: updates m and v and returns x.
template <Direction kDirection, class V, class T>
SPHERE_INLINE V moments(V g, V& m, V& v, const Hyper<T>& h) {
  if constexpr (kDirection == kPrevious) return m;
  const V ahead = h.x_m * m + h.x_g * g;
  m = h.beta1 * m + h.gain1 * g;
  if constexpr (kDirection == kMoment) return m;
  if constexpr (kDirection == kNesterov) return ahead;
  if constexpr (kDirection == kSign) return sign(ahead);
  v = h.beta2 * v + h.gain2 * g * g;
  return adam_direction(g, m, v, h);
}

// Move 2.
template <Direction kDirection, class V>
SPHERE_INLINE void add(Gram<V>& gram, V w, V x, V g) {
  gram.ww += w * w;
  gram.wx += w * x;
  gram.xx += x * x;
  gram.gg += g * g;
  if constexpr (kDirection != kMoment) gram.wg += w * g;
  if constexpr (kDirection == kPrevious) gram.gx += g * x;
  if constexpr (!kMakesMoment<kDirection>) {
    gram.sw += w;
    gram.sx += x;
  }
}

// A closed form is off by about 1e-7 times this ratio in float32, of what it subtracts to what it
// leaves, before it gives way to products measured on the difference itself.
inline constexpr int kCancelling = 4;

// What may have to be measured: the gradient's part h = g - radial w, or the new point.
template <Direction kDirection, class S>
using Measured = std::conditional_t<kDirection == kPrevious, Tangent<S>, Landing<S>>;

// What the elements of S are, or S itself.
template <class S, class = void>
struct NumberIn {
  using Type = S;
};
template <class S>
struct NumberIn<S, std::void_t<decltype(S{}[0])>> {
  using Type = std::decay_t<decltype(S{}[0])>;
};

template <class S, class T, class R>
SPHERE_INLINE void add(Tangent<S>& tangent, T w, T x, T g, const R& radial) {
  using Number = typename NumberIn<S>::Type;
  const S h = g - Number(radial) * w;
  tangent.hh += h * h;
  tangent.hx += h * x;
}
template <class S, class T, class R>
SPHERE_INLINE void add(Landing<S>& y, T w, T x, T, const Update<R>& u) {
  using Number = typename NumberIn<S>::Type;
  const S p = Number(u.a_w) * w + Number(u.a_x) * x + Number(u.a_1);
  y.yy += p * p;
  y.wy += p * w;
  y.xy += p * x;
}

template <class S>
SPHERE_INLINE void operator+=(Tangent<S>& sum, const Tangent<S>& part) {
  sum = {sum.hh + part.hh, sum.hx + part.hx};
}
template <class S>
SPHERE_INLINE void operator+=(Landing<S>& sum, const Landing<S>& part) {
  sum = {sum.yy + part.yy, sum.wy + part.wy, sum.xy + part.xy};
}
// Of what is measured; see Gram.
template <class S, class P>
SPHERE_INLINE void operator+=(Gram<S>& sum, const Gram<P>& part) {
  sum.ww += part.ww;
  sum.wx += part.wx;
  sum.xx += part.xx;
  sum.wg += part.wg;
  sum.gg += part.gg;
  sum.gx += part.gx;
  sum.sw += part.sw;
  sum.sx += part.sx;
}

// Move 3. `measure(of, needed)` adds up, where needed, those products over the segment: `of` is
// `radial` or the Update. It is called where not needed as well, because the threads that measure
// together may decide for several segments.
template <Direction kDirection, class T, class Measure>
SPHERE_INLINE Update<T> decide(int rule, Gram<T> gram, T s, const Hyper<T>& h, Measure measure) {
  if constexpr (kDirection == kPrevious) {
    const T radial = gram.ww > T(0) ? gram.wg / gram.ww : T(0);
    gram.hh = gram.gg - radial * gram.wg;
    gram.hx = gram.gx - radial * gram.wx;
    const bool cancels = gram.hh < gram.gg / kCancelling;
    const Tangent<T> measured = measure(radial, cancels);
    if (cancels) gram.hh = measured.hh, gram.hx = measured.hx;
    Update<T> u = step<kDirection>(rule, gram, s, h);
    u.radial = radial;
    return u;
  } else {
    const Update<T> u = step<kDirection>(rule, gram, s, h);
    if (!lands(rule)) return u;
    // In this order, because the square of a small coefficient may be 0 where its term is not.
    const T from_w = u.a_w * (u.a_w * gram.ww);
    const T from_x = u.a_x * (u.a_x * gram.xx);
    T terms = from_w + from_x;
    Landing<T> y = {terms + 2 * u.a_w * (u.a_x * gram.wx), u.a_w * gram.ww + u.a_x * gram.wx,
                    u.a_w * gram.wx + u.a_x * gram.xx};
    if constexpr (!kMakesMoment<kDirection>) {
      const T from_1 = u.a_1 * (u.a_1 * h.dim);
      terms += from_1;
      y.yy += from_1 + 2 * u.a_1 * (u.a_w * gram.sw + u.a_x * gram.sx);
      y.wy += u.a_1 * gram.sw;
      y.xy += u.a_1 * gram.sx;
    }
    // So that what has overflowed, to infinity or NaN, is measured as well.
    const bool cancels = !(terms - kCancelling * y.yy <= T(0));
    const Landing<T> measured = measure(u, cancels);
    if (cancels) y = measured;
    return land<kDirection>(rule, gram, y, u, h);
  }
}

// Move 4.
template <Direction kDirection, class V, class T>
SPHERE_INLINE V new_weight(V w, V x, V g, const Update<T>& u) {
  V y = u.a_w * w + u.a_x * x;
  if constexpr (kDirection == kPrevious) y += u.a_h * (g - u.radial * w);
  if constexpr (!kMakesMoment<kDirection>) y += u.a_1;
  return y;
}

// Where kMakesMoment.
template <Direction kDirection, class V, class T>
SPHERE_INLINE V new_moment(V w, V x, V g, const Update<T>& u) {
  V m = u.b_w * w + u.b_x * x;
  if constexpr (kDirection == kPrevious) m += u.b_h * (g - u.radial * w);
  return m;
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
