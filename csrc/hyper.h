// The hyperparameters of a step, from those of a group and the number of the step; and the tuples
// of a rule in another precision.
#pragma once

#include "rules.gen.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// What differs between the tensors of a group.
template <class T>
SPHERE_INLINE void set_sizes(Hyper<T>& h, const Segments& at) {
  h.dim = T(at.dim);
  h.sqrt_dim = T(sqrt(double(at.dim)));
  h.numel = T(double(at.outer) * double(at.dim) * double(at.inner));
}

// Of step number `t` of a tensor, in double, whatever they are rounded to: 1 - beta^t formed in
// float32 loses digits.
SPHERE_INLINE Hyper<double> hyper_at(const GroupHyper& g, const Segments& at, double t) {
  const double bc1 = g.corrects ? 1 - power(g.beta1, t) : 1;
  const double bc2 = g.corrects ? 1 - power(g.beta2, t) : 1;
  Hyper<double> h = {.lr = g.lr,
                     .beta1 = g.beta1,
                     .gain1 = g.gain1,
                     .beta2 = g.beta2,
                     .gain2 = 1 - g.beta2,
                     .beta3 = g.beta3,
                     .gain3 = 1 - g.beta3,
                     .bc1 = bc1,
                     .bc2 = bc2,
                     .bc3 = 1 - power(g.beta3, t),
                     .t = t,
                     .eps = g.eps,
                     .weight_decay = g.weight_decay,
                     .decay = decays(at.rule) && g.decoupled ? 1 - g.lr * g.weight_decay : 1,
                     .grad_clip = g.grad_clip,
                     .dim = 0,
                     .sqrt_dim = 0,
                     .numel = 0,
                     .l2 = decays(at.rule) && !g.decoupled ? g.weight_decay : 0,
                     .unscale = (g.maximize ? -1 : 1) / g.grad_scale,
                     .x_m = g.ahead_m * sqrt(bc2) / bc1,
                     .x_g = g.ahead_g * sqrt(bc2) / bc1,
                     .x_eps = g.eps * sqrt(bc2),
                     .verdict = 1,
                     .own = {}};
  set_sizes(h, at);
  for (int i = 0; i < kMostOwn; ++i) h.own[i] = g.own[i];
  return h;
}

template <class T>
SPHERE_INLINE Hyper<T> rounded(const Hyper<double>& a) {
  Hyper<T> h = {T(a.lr),    T(a.beta1),    T(a.gain1),        T(a.beta2),   T(a.gain2),
                T(a.beta3), T(a.gain3),    T(a.bc1),          T(a.bc2),     T(a.bc3),
                T(a.t),     T(a.eps),      T(a.weight_decay), T(a.decay),   T(a.grad_clip),
                T(a.dim),   T(a.sqrt_dim), T(a.numel),        T(a.l2),      T(a.unscale),
                T(a.x_m),   T(a.x_g),      T(a.x_eps),        T(a.verdict), {}};
  for (int i = 0; i < kMostOwn; ++i) h.own[i] = T(a.own[i]);
  return h;
}

template <class T, class From>
SPHERE_INLINE Gram<T> rounded(const Gram<From>& a) {
  return {T(a.ww), T(a.wx), T(a.xx), T(a.wg), T(a.gg),    T(a.gx),
          T(a.hh), T(a.hx), T(a.sw), T(a.sx), T(a.radius)};
}
template <class T, class From>
SPHERE_INLINE Update<T> rounded(const Update<From>& a) {
  return {T(a.s),   T(a.a_w), T(a.a_x), T(a.a_h),   T(a.a_1),
          T(a.b_w), T(a.b_x), T(a.b_h), T(a.radial)};
}
template <class T, class From>
SPHERE_INLINE Tangent<T> rounded(const Tangent<From>& a) {
  return {T(a.hh), T(a.hx)};
}
template <class T, class From>
SPHERE_INLINE Landing<T> rounded(const Landing<From>& a) {
  return {T(a.yy), T(a.wy), T(a.xy)};
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
