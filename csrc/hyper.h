// The hyperparameters of a step, from those of a group and the number of the step; and the tuples
// of a rule in another precision.
#pragma once

#include "rules.gen.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// In double, whatever they are rounded to: 1 - beta^t formed in float32 loses digits.
SPHERE_INLINE Hyper<double> hyper_at(const GroupHyper& g, double t) {
  return {.lr = g.lr,
          .beta1 = g.beta1,
          .gain1 = g.gain1,
          .beta2 = g.beta2,
          .gain2 = 1 - g.beta2,
          .bc1 = 1 - power(g.beta1, t),
          .bc2 = 1 - power(g.beta2, t),
          .eps = g.eps,
          .decay = g.decoupled ? 1 - g.lr * g.weight_decay : 1,
          .grad_clip = g.grad_clip,
          .sqrt_dim = 0,  // of the tensor
          .weight_decay = g.decoupled ? 0 : g.weight_decay,
          .unscale = 1 / g.grad_scale};
}

template <class T>
SPHERE_INLINE Hyper<T> rounded(const Hyper<double>& a) {
  return {T(a.lr),       T(a.beta1),        T(a.gain1),  T(a.beta2), T(a.gain2),
          T(a.bc1),      T(a.bc2),          T(a.eps),    T(a.decay), T(a.grad_clip),
          T(a.sqrt_dim), T(a.weight_decay), T(a.unscale)};
}

template <class T, class From>
SPHERE_INLINE Gram<T> rounded(const Gram<From>& a) {
  return {T(a.ww), T(a.wx), T(a.xx), T(a.wg), T(a.gg), T(a.gx), T(a.hh), T(a.hx)};
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
