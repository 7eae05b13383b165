// The rules of sphere_fused/optim and the tuples of sphere_fused/rule.py in C++.
// Written by `make gen`; do not edit.
// clang-format off
#pragma once

#include "plan.h"
#include "vocabulary.h"

namespace sphere_fused {

// Inner products over one segment of the weight w, the gradient g and the direction x.
//
// The direction of a rule decides which of them there are; see DIRECTIONS.
// h = g - w wg/ww is the gradient without its radial part.
template <class T>
struct Gram {
  T ww;
  T wx;
  T xx;
  T wg;
  T gg;
  T gx;
  T hh;
  T hx;
  T sw;  // the sum of the elements of w
  T sx;  // and of x
  T radius;  // not a product: the norm the segment is to keep, where the rule keeps one
};

// Inner products of h, as in Gram, with itself and with x.
template <class T>
struct Tangent {
  T hh;
  T hx;
};

// Inner products of y = a_w w + a_x x + a_1, mostly the new point, with itself, w and x.
template <class T>
struct Landing {
  T yy;
  T wy;
  T xy;
};

// Hyperparameters of one step of one tensor, formed in double before they are rounded.
template <class T>
struct Hyper {
  T lr;
  T beta1;  // decay of the first moment
  T gain1;  // weight of the new gradient in it: 1 - beta1, or 1 - dampening
  T beta2;
  T gain2;  // 1 - beta2
  T beta3;  // decay of what else a rule averages
  T gain3;  // 1 - beta3
  T bc1;  // 1 - beta1**t, or 1 where moments are not corrected
  T bc2;  // 1 - beta2**t, likewise
  T bc3;  // 1 - beta3**t
  T t;  // the number of the step, 1 for the first
  T eps;
  T weight_decay;
  T decay;  // 1 - lr * weight_decay where the decay is decoupled, else 1
  T grad_clip;  // infinity where there is none
  T dim;  // elements in a segment
  T sqrt_dim;
  T numel;  // elements in the tensor
  T l2;  // what move 1 adds of w to the gradient: the coupled weight decay
  T unscale;  // what move 1 multiplies the gradient by before: 1 / grad_scale, < 0 to maximize
  T x_m;  // of what x is made; see Rule.direction
  T x_g;
  T x_eps;
  T verdict = T(1.0);  // what Rule.verdict has said of the tensor
  T own[kMostOwn];  // the hyperparameters that a rule has of its own
};

// What a rule decides: the new segment state s and the coefficients of move 4.
//
// a_h, b_w, b_x and b_h are for the directions "moment" and "previous", a_1 for the others, which
// store m as move 1 has updated it.
template <class T>
struct Update {
  T s;
  T a_w;
  T a_x;
  T a_h = T(0.0);
  T a_1 = T(0.0);
  T b_w = T(0.0);
  T b_x = T(1.0);
  T b_h = T(0.0);
  T radial = T(0.0);  // of h = g - radial w; the backend fills it in
};

inline namespace SPHERE_ISA {

template <class T>
SPHERE_INLINE Update<T> elementwise(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  return {.s = s, .a_w = h.decay, .a_x = -h.lr};
}

template <class T>
SPHERE_INLINE Update<T> adams(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  s = h.beta2 * s + h.gain2 * gram.gg;
  const auto a = h.lr * h.sqrt_dim / (h.bc1 * (sqrt(s / h.bc2) + h.eps));
  return {.s = s, .a_w = h.decay, .a_x = -a};
}

template <class T>
SPHERE_INLINE Update<T> transport(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& y,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto moved = gram.ww > T(0) && y.yy > T(0);
  const auto n = sqrt(gram.ww) * sqrt(y.yy) + h.eps;
  const auto b_w = where(moved, -y.xy / n, T(0.0));
  const auto b_x = where(moved, y.wy / n, T(1.0));
  return {.s = u.s, .a_w = u.a_w, .a_x = u.a_x, .b_w = b_w, .b_x = b_x};
}

template <class T>
SPHERE_INLINE Update<T> rescale_and_transport(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& y,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto moved = gram.ww > T(0) && y.yy > T(0);
  const auto n = y.yy + h.eps;
  const auto s = where(moved, u.s * (gram.ww / n), u.s);
  const auto b_w = where(moved, -y.xy / n, T(0.0));
  const auto b_x = where(moved, y.wy / n, T(1.0));
  return {.s = s, .a_w = u.a_w, .a_x = u.a_x, .b_w = b_w, .b_x = b_x};
}

template <class T>
SPHERE_INLINE Update<T> adamg(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto r = sqrt(gram.ww);
  const auto size = sqrt(gram.hh);
  const auto clip = where(size > h.grad_clip, h.grad_clip / size, T(1.0));
  // Where <h,h> overflows, clipping leaves nothing.
  const auto hh = where(clip > T(0), clip * clip * gram.hh, T(0.0));
  // x is the old moment, and the new one beta1 x + p h: a clipped h loses no digits.
  const auto p = h.gain1 * clip;
  const auto mm = h.beta1 * h.beta1 * gram.xx + T(2.0) * h.beta1 * p * gram.hx + h.gain1 * h.gain1 * hh;
  s = h.beta2 * s + h.gain2 * hh;
  const auto k = h.lr * sqrt(h.bc2) / (h.bc1 * sqrt(s + h.eps));
  // Where s overflows, the segment stays where it is, as Adam's weights do, however long m is.
  const auto norm = where(k > T(0), sqrt(maximum(mm, T(0.0))), T(0.0));
  const auto angle = k * norm;
  const auto sinc = where(angle < T(0.0001), T(1.0) - angle * angle / T(6.0), sin(angle) / angle);
  const auto a_x = -sinc * k * h.beta1;
  const auto a_h = -sinc * k * p;
  const auto b_x = cos(angle) * h.beta1;
  const auto b_h = cos(angle) * p;
  return {.s = s, .a_w = where(h.lr > T(0), cos(angle) / r, T(1.0)), .a_x = a_x, .a_h = a_h, .b_w = norm * sin(angle) / r, .b_x = b_x, .b_h = b_h};
}

template <class T>
SPHERE_INLINE Update<T> transport_buffer(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& y,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto moved = gram.ww > T(0) && y.yy > T(0);
  const auto b_w = where(moved, -y.xy / y.yy, T(0.0));
  const auto b_x = where(moved, y.wy / y.yy, T(1.0));
  return {.s = u.s, .a_w = u.a_w, .a_x = u.a_x, .b_w = b_w, .b_x = b_x};
}

inline constexpr RuleInfo kRules[] = {
    {"adam sphere_fused.optim.classic.elementwise", kAdam, false},
    {"moment sphere_fused.optim.adams.adams", kMoment, false},
    {"moment sphere_fused.optim.adams.adams sphere_fused.optim.adamst.transport", kMoment, false},
    {"moment sphere_fused.optim.adams.adams sphere_fused.optim.adamsrt.rescale_and_transport", kMoment, false},
    {"previous sphere_fused.optim.adamg.adamg", kPrevious, false},
    {"moment sphere_fused.optim.classic.elementwise", kMoment, false},
    {"moment sphere_fused.optim.classic.elementwise sphere_fused.optim.sgdmrt.transport_buffer", kMoment, false},
};

template <class T>
SPHERE_INLINE Update<T> step(int rule, const Gram<T>& gram, T s, const Hyper<T>& h) {
  switch (rule) {
    case 0: return elementwise(gram, s, h);
    case 1: return adams(gram, s, h);
    case 2: return adams(gram, s, h);
    case 3: return adams(gram, s, h);
    case 4: return adamg(gram, s, h);
    case 5: return elementwise(gram, s, h);
    case 6: return elementwise(gram, s, h);
  }
  return {};
}

// Whether weight decay is applied as the group says; else it is the rule's to read.
SPHERE_INLINE bool decays([[maybe_unused]] int rule) {
  return true;
}

// Whether a rule has a second function, which must know where the step ended.
SPHERE_INLINE bool lands(int rule) {
  return rule == 2 || rule == 3 || rule == 6;
}

template <class T>
SPHERE_INLINE Update<T> land(int rule, const Gram<T>& gram, const Landing<T>& y,
                             const Update<T>& u, const Hyper<T>& h) {
  switch (rule) {
    case 2: return transport(gram, y, u, h);
    case 3: return rescale_and_transport(gram, y, u, h);
    case 6: return transport_buffer(gram, y, u, h);
  }
  return u;
}

// What a rule that decides over the whole tensor asks of each segment, and makes of it.
template <class T>
SPHERE_INLINE T peak(int rule, const Gram<T>& gram, const Hyper<T>& h) {
  switch (rule) {
  }
  return T(0);
}

template <class T>
SPHERE_INLINE T verdict(int rule, const Gram<T>& whole, T most, const Hyper<T>& h) {
  switch (rule) {
  }
  return T(1);
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
