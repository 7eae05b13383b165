// The elementwise half of every optimizer, written once: V is a number on a GPU and a vector of
// numbers on a CPU, T the type the arithmetic is done in.
#pragma once

#include "rules.gen.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// The gradient as the optimizer sees it; the one in memory is never changed.
template <class V, class T>
SPHERE_INLINE V gradient(V g, V w, const Hyper<T>& h) {
  return g + h.weight_decay * w;
}

// Move 1: updates m and v and returns x.
template <Direction kDirection, class V, class T>
SPHERE_INLINE V moments(V g, V& m, V& v, const Hyper<T>& h) {
  if constexpr (kDirection == kPrevious) return m;
  m = h.beta1 * m + h.gain1 * g;
  if constexpr (kDirection == kMoment) return m;
  v = h.beta2 * v + h.gain2 * g * g;
  return (m / h.bc1) / (sqrt(v / h.bc2) + h.eps);
}

// Move 2.
template <Direction kDirection, class V>
SPHERE_INLINE void add(Gram<V>& gram, V w, V x, V g) {
  gram.ww += w * w;
  gram.wx += w * x;
  gram.xx += x * x;
  gram.gg += g * g;
  if constexpr (kDirection == kPrevious) {
    gram.wg += w * g;
    gram.gx += g * x;
  }
}

// The closed form of a landing is off by about 2e-7 times this ratio in float32.
inline constexpr int kCancelling = 4;

// Move 3, with the landing where the rule asks for it. `measure(u, needed)` returns, where needed,
// the landing's products as computed from the new point itself: w and the step cancel there, and the
// closed form has lost too many digits. It is called where not needed as well, because the threads
// that measure together may decide for several segments.
template <class T, class Measure>
SPHERE_INLINE Update<T> decide(int rule, const Gram<T>& gram, T s, const Hyper<T>& h,
                               Measure measure) {
  const Update<T> u = step(rule, gram, s, h);
  if (!lands(rule)) return u;
  const T from_w = u.a_w * u.a_w * gram.ww;
  const T from_x = u.a_x * u.a_x * gram.xx;
  Landing<T> y = {from_w + 2 * u.a_w * u.a_x * gram.wx + from_x, u.a_w * gram.ww + u.a_x * gram.wx,
                  u.a_w * gram.wx + u.a_x * gram.xx};
  const bool cancels = y.yy < (from_w + from_x) / kCancelling;
  const Landing<T> measured = measure(u, cancels);
  if (cancels) y = measured;
  return land(rule, gram, y, u, h);
}

// Move 4.
template <Direction kDirection, class V, class T>
SPHERE_INLINE V new_weight(V w, V x, V g, const Update<T>& u) {
  V y = u.a_w * w + u.a_x * x;
  if constexpr (kDirection == kPrevious) y += u.a_g * g;
  return y;
}

template <Direction kDirection, class V, class T>
SPHERE_INLINE V new_moment(V w, V x, V g, const Update<T>& u) {
  V m = u.b_w * w + u.b_x * x;
  if constexpr (kDirection == kPrevious) m += u.b_g * g;
  return m;
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
