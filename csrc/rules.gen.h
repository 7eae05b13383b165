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
  T unscale;
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

template <class T>
SPHERE_INLINE Update<T> projected(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto n = sqrt(gram.ww) + h.eps;
  const auto radial = where(h.verdict > T(0), gram.wx / (n * n), T(0.0));
  const auto decay = h.weight_decay * where(h.verdict > T(0), h.own[1], T(1.0));
  return {.s = s, .a_w = T(1.0) - h.lr * decay + h.lr * radial, .a_x = -h.lr};
}

template <class T>
SPHERE_INLINE T cosine(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto c = gram.wg / (maximum(sqrt(gram.gg), h.eps) * maximum(sqrt(gram.ww), h.eps));
  return maximum(c, -c);
}

template <class T>
SPHERE_INLINE T filters_or_tensor(
    [[maybe_unused]] const Gram<T>& whole,
    [[maybe_unused]] T peak,
    [[maybe_unused]] const Hyper<T>& h) {
  // Where every filter is orthogonal to its gradient: 1, each by itself. Else where the tensor is:
  // 2, the tensor as one. Else 0: it is not scale-invariant.
  const auto c = whole.wg / (maximum(sqrt(whole.gg), h.eps) * maximum(sqrt(whole.ww), h.eps));
  const auto of_tensor = where(maximum(c, -c) < h.own[0] / sqrt(h.numel), T(2.0), T(0.0));
  return where(peak < h.own[0] / h.sqrt_dim, T(1.0), of_tensor);
}

template <class T>
SPHERE_INLINE Update<T> projected_by_filter(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto c = gram.wg / (maximum(sqrt(gram.gg), h.eps) * maximum(sqrt(gram.ww), h.eps));
  const auto is_orthogonal = maximum(c, -c) < h.own[0] / h.sqrt_dim;
  const auto n = sqrt(gram.ww) + h.eps;
  const auto radial = where(is_orthogonal, gram.wx / (n * n), T(0.0));
  const auto decay = h.weight_decay * where(is_orthogonal, h.own[1], T(1.0));
  return {.s = s, .a_w = T(1.0) - h.lr * decay + h.lr * radial, .a_x = -h.lr};
}

template <class T>
SPHERE_INLINE Update<T> adamh(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto size = sqrt(gram.xx);
  return {.s = s, .a_w = T(1.0), .a_x = where(size == T(0), T(0.0), -h.lr * gram.radius / size)};
}

template <class T>
SPHERE_INLINE Update<T> to_radius(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& y,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  // A step that is 0, or would land on 0, leaves w.
  const auto stays = y.yy == T(0) || u.a_x == T(0);
  const auto scale = gram.radius / sqrt(y.yy);
  const auto a_w = where(stays, T(1.0), scale * u.a_w);
  return {.s = u.s, .a_w = a_w, .a_x = where(stays, T(0.0), scale * u.a_x)};
}

template <class T>
SPHERE_INLINE Update<T> norm_adamw(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto removes = h.own[0] > T(0) && gram.ww > T(0);
  const auto radial = where(removes, gram.wx / gram.ww, T(0.0));
  return {.s = s, .a_w = h.decay + h.lr * radial, .a_x = -h.lr};
}

template <class T>
SPHERE_INLINE Update<T> tangential(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  // d = x without its mean and without what is then radial.
  const auto mean = where(h.own[1] > T(0), gram.sx / h.dim, T(0.0));
  const auto radial = where(gram.ww > T(0), (gram.wx - mean * gram.sw) / gram.ww, T(0.0));
  return {.s = s, .a_w = -radial, .a_x = T(1.0), .a_1 = -mean};
}

template <class T>
SPHERE_INLINE Update<T> rotate(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& d,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  // y = w - k d, whose norm is then made the radius.
  const auto q = h.beta3 * u.s + h.gain3 * d.yy;
  const auto eta = sqrt(h.lr * h.own[0]);
  auto k = eta * gram.radius / (sqrt(q / h.bc3) + h.own[2]);
  // Of a d that is 0 no multiple is anything but rounding.
  k = where(d.yy == T(0), T(0.0), k);
  const auto yy = gram.ww - T(2.0) * k * d.wy + k * k * d.yy;
  const auto stays = yy == T(0) || k == T(0);
  const auto scale = gram.radius / sqrt(yy);
  const auto a_w = where(stays, T(1.0), scale * (T(1.0) - k * u.a_w));
  const auto a_x = where(stays, T(0.0), -scale * k * u.a_x);
  return {.s = q, .a_w = a_w, .a_x = a_x, .a_1 = where(stays, T(0.0), -scale * k * u.a_1)};
}

template <class T>
SPHERE_INLINE Update<T> riemannian_adam(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  // In terms of the unit vector w/r and of the new moment m = beta1 x + gain1 h.
  const auto r = sqrt(gram.ww);
  const auto wm = h.beta1 * gram.wx / r;
  auto mm = h.beta1 * h.beta1 * gram.xx + T(2.0) * h.beta1 * h.gain1 * gram.hx;
  mm = mm + h.gain1 * h.gain1 * gram.hh;
  s = h.beta2 * s + h.gain2 * gram.hh;
  const auto k = h.lr / (h.bc1 * (sqrt(s / h.bc2) + h.eps));
  // Where s overflows, the segment stays where it is, as Adam's weights do, however long m is.
  mm = where(k > T(0), maximum(mm, T(0.0)), T(0.0));
  const auto yy = T(1.0) - T(2.0) * k * wm + k * k * mm;
  const auto size = sqrt(yy);
  // m - <w',m> w' = along_m m + along_w w/r, without subtracting what is nearly equal.
  const auto along_m = (T(1.0) - k * wm) / yy;
  const auto along_w = (k * mm - wm) / yy;
  const auto stays = h.lr == T(0);
  return {.s = s, .a_w = where(stays, T(1.0), T(1.0) / (r * size)), .a_x = -k * h.beta1 / size, .a_h = -k * h.gain1 / size, .b_w = along_w / r, .b_x = along_m * h.beta1, .b_h = along_m * h.gain1};
}

template <class T>
SPHERE_INLINE Update<T> torch_sgd(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  // b = momentum m + gain g, and the first gradient enters it undamped.
  const auto gain = where(h.t > T(1), h.gain1, T(1.0));
  const auto of_b = where(h.own[0] > T(0), h.beta1, T(1.0));
  const auto a_h = -h.lr * (of_b * gain + h.own[0]);
  return {.s = s, .a_w = T(1.0), .a_x = -h.lr * of_b * h.beta1, .a_h = a_h, .b_x = h.beta1, .b_h = gain};
}

template <class T>
SPHERE_INLINE Update<T> riemannian_sgd(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto r = sqrt(gram.ww);
  // The buffer starts at the first gradient as it is: momentum times that enters the first step.
  const auto first = where(h.t > T(1), T(0.0), h.beta1);
  // b = b_w w + b_x x + b_h h, and y = w/r - lr d, where d is b, or h + momentum b.
  const auto b_w = first * (gram.wg / gram.ww - h.l2);
  const auto b_x = h.beta1;
  const auto b_h = h.gain1 + first;
  const auto lr = h.lr * where(h.own[0] > T(0), h.beta1, T(1.0));
  auto y_w = T(1.0) / r - lr * b_w;
  auto y_x = -lr * b_x;
  auto y_h = -lr * b_h - h.lr * h.own[0];
  auto yy = y_w * y_w * gram.ww + y_x * y_x * gram.xx + y_h * y_h * gram.hh;
  yy = yy + T(2.0) * y_x * (y_w * gram.wx + y_h * gram.hx);
  // A step that would land on 0 leaves w.
  const auto stays = h.lr == T(0) || yy == T(0);
  yy = where(stays, T(1.0), yy);
  y_w = where(stays, T(1.0) / r, y_w);
  y_x = where(stays, T(0.0), y_x);
  y_h = where(stays, T(0.0), y_h);
  // On the sphere: w' = y/|y|, b' = b - <w',b> w'.
  auto yb = y_w * (b_w * gram.ww + b_x * gram.wx) + y_h * (b_x * gram.hx + b_h * gram.hh);
  yb = yb + y_x * (b_w * gram.wx + b_x * gram.xx + b_h * gram.hx);
  const auto e = yb / yy;
  const auto size = sqrt(yy);
  return {.s = s, .a_w = where(stays, T(1.0), y_w / size), .a_x = y_x / size, .a_h = y_h / size, .b_w = b_w - e * y_w, .b_x = b_x - e * y_x, .b_h = b_h - e * y_h};
}

template <class T>
SPHERE_INLINE Update<T> with_decay(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  return {.s = s, .a_w = h.weight_decay, .a_x = T(1.0)};
}

template <class T>
SPHERE_INLINE Update<T> lamb(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& d,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto plain = gram.ww == T(0) || d.yy == T(0) || h.own[0] == T(0);
  const auto lr = h.lr * where(plain, T(1.0), sqrt(gram.ww) / sqrt(d.yy));
  return {.s = u.s, .a_w = T(1.0) - lr * u.a_w, .a_x = -lr};
}

template <class T>
SPHERE_INLINE Update<T> lars(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto w = sqrt(gram.ww);
  const auto g = sqrt(gram.gg);
  const auto plain = w == T(0) || g == T(0) || h.own[0] == T(0);
  const auto trust = h.own[1] * w / (g + h.weight_decay * w + h.eps);
  const auto ratio = where(plain, T(1.0), trust);
  // The gradient becomes ratio (g + wd w), g being h + radial w: e_h h + e_w w.
  const auto radial = where(gram.ww > T(0), gram.wg / gram.ww, T(0.0));
  const auto e_w = ratio * (radial + h.weight_decay);
  // b = momentum x + gain e, where the first is not damped; the direction b, or e + momentum b.
  const auto gain = where(h.t > T(1), h.gain1, T(1.0));
  const auto of_b = where(h.own[2] > T(0), h.beta1, T(1.0));
  const auto of_e = of_b * gain + h.own[2];
  return {.s = s, .a_w = T(1.0) - h.lr * of_e * e_w, .a_x = -h.lr * of_b * h.beta1, .a_h = -h.lr * of_e * ratio, .b_w = gain * e_w, .b_x = h.beta1, .b_h = gain * ratio};
}

template <class T>
SPHERE_INLINE Update<T> share_of_norm(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] T s,
    [[maybe_unused]] const Hyper<T>& h) {
  const auto size = sqrt(gram.xx);
  return {.s = s, .a_w = T(1.0), .a_x = where(size == T(0), T(0.0), -h.lr * sqrt(gram.ww) / size)};
}

template <class T>
SPHERE_INLINE Update<T> back_to_norm(
    [[maybe_unused]] const Gram<T>& gram,
    [[maybe_unused]] const Landing<T>& y,
    [[maybe_unused]] const Update<T>& u,
    [[maybe_unused]] const Hyper<T>& h) {
  // A step that is 0, or would land on 0, leaves w.
  const auto stays = y.yy == T(0) || u.a_x == T(0);
  const auto scale = sqrt(gram.ww) / sqrt(y.yy);
  const auto a_w = where(stays, T(1.0), scale * u.a_w);
  return {.s = u.s, .a_w = a_w, .a_x = where(stays, T(0.0), scale * u.a_x)};
}

inline constexpr RuleInfo kRules[] = {
    {"sphere_fused.optim.classic.elementwise None adam element None False True None None ()", kAdam, false},
    {"sphere_fused.optim.adams.adams None moment segment None False True None None ()", kMoment, false},
    {"sphere_fused.optim.adams.adams sphere_fused.optim.adamst.transport moment segment None False True None None ()", kMoment, false},
    {"sphere_fused.optim.adams.adams sphere_fused.optim.adamsrt.rescale_and_transport moment segment None False True None None ()", kMoment, false},
    {"sphere_fused.optim.adamg.adamg None previous segment None False True None None ()", kPrevious, false},
    {"sphere_fused.optim.classic.elementwise None moment None None False True None None ()", kMoment, false},
    {"sphere_fused.optim.classic.elementwise sphere_fused.optim.sgdmrt.transport_buffer moment None None False True None None ()", kMoment, false},
    {"sphere_fused.optim.adamp.projected None adam element None False False sphere_fused.optim.adamp.cosine sphere_fused.optim.adamp.filters_or_tensor ('delta', 'wd_ratio')", kAdam, true},
    {"sphere_fused.optim.adamp.projected_by_filter None adam element None False False None None ('delta', 'wd_ratio')", kAdam, false},
    {"sphere_fused.optim.classic.elementwise None nesterov None None False True None None ()", kNesterov, false},
    {"sphere_fused.optim.adamp.projected None nesterov None None False False sphere_fused.optim.adamp.cosine sphere_fused.optim.adamp.filters_or_tensor ('delta', 'wd_ratio')", kNesterov, true},
    {"sphere_fused.optim.adamp.projected_by_filter None nesterov None None False False None None ('delta', 'wd_ratio')", kNesterov, false},
    {"sphere_fused.optim.adamh.adamh sphere_fused.optim.adamh.to_radius adam element None True True None None ()", kAdam, false},
    {"sphere_fused.optim.normadamw.norm_adamw sphere_fused.optim.adamh.to_radius adam element None True True None None ('tangent',)", kAdam, false},
    {"sphere_fused.optim.rotational.tangential sphere_fused.optim.rotational.rotate adam element update_norm_sq True True None None ('rate', 'zero_mean', 'rotational_eps')", kAdam, false},
    {"sphere_fused.optim.rotational.tangential sphere_fused.optim.rotational.rotate nesterov None update_norm_sq True False None None ('rate', 'zero_mean', 'rotational_eps')", kNesterov, false},
    {"sphere_fused.optim.classic.elementwise None sign None None False True None None ()", kSign, false},
    {"sphere_fused.optim.rotational.tangential sphere_fused.optim.rotational.rotate sign None update_norm_sq True True None None ('rate', 'zero_mean', 'rotational_eps')", kSign, false},
    {"sphere_fused.optim.riemannianadam.riemannian_adam None previous segment None False True None None ()", kPrevious, false},
    {"sphere_fused.optim.classic.torch_sgd None previous None None False True None None ('nesterov',)", kPrevious, false},
    {"sphere_fused.optim.riemanniansgd.riemannian_sgd None previous None None False True None None ('nesterov',)", kPrevious, false},
    {"sphere_fused.optim.lamb.with_decay sphere_fused.optim.lamb.lamb adam element None False False None None ('adapts',)", kAdam, false},
    {"sphere_fused.optim.lars.lars None previous None None False False None None ('adapts', 'trust_coefficient', 'nesterov')", kPrevious, false},
    {"sphere_fused.optim.hyperball.share_of_norm sphere_fused.optim.hyperball.back_to_norm moment None None False True None None ()", kMoment, false},
};

template <Direction kDirection, class T>
SPHERE_INLINE Update<T> step(int rule, const Gram<T>& gram, T s,
                             const Hyper<T>& h) {
  if constexpr (kServes<kDirection, kAdam>) {
    switch (rule) {
      case 0: return elementwise(gram, s, h);
      case 7: return projected(gram, s, h);
      case 8: return projected_by_filter(gram, s, h);
      case 12: return adamh(gram, s, h);
      case 13: return norm_adamw(gram, s, h);
      case 14: return tangential(gram, s, h);
      case 21: return with_decay(gram, s, h);
    }
  }
  if constexpr (kServes<kDirection, kMoment>) {
    switch (rule) {
      case 1: return adams(gram, s, h);
      case 2: return adams(gram, s, h);
      case 3: return adams(gram, s, h);
      case 5: return elementwise(gram, s, h);
      case 6: return elementwise(gram, s, h);
      case 23: return share_of_norm(gram, s, h);
    }
  }
  if constexpr (kServes<kDirection, kPrevious>) {
    switch (rule) {
      case 4: return adamg(gram, s, h);
      case 18: return riemannian_adam(gram, s, h);
      case 19: return torch_sgd(gram, s, h);
      case 20: return riemannian_sgd(gram, s, h);
      case 22: return lars(gram, s, h);
    }
  }
  if constexpr (kServes<kDirection, kNesterov>) {
    switch (rule) {
      case 9: return elementwise(gram, s, h);
      case 10: return projected(gram, s, h);
      case 11: return projected_by_filter(gram, s, h);
      case 15: return tangential(gram, s, h);
    }
  }
  if constexpr (kServes<kDirection, kSign>) {
    switch (rule) {
      case 16: return elementwise(gram, s, h);
      case 17: return tangential(gram, s, h);
    }
  }
  return {};
}

// Whether weight decay is applied as the group says; else it is the rule's to read.
SPHERE_INLINE bool decays([[maybe_unused]] int rule) {
  return rule != 7 && rule != 8 && rule != 10 && rule != 11 && rule != 15 && rule != 21 && rule != 22;
}

// Whether a rule has a second function, which must know where the step ended.
SPHERE_INLINE bool lands(int rule) {
  return rule == 2 || rule == 3 || rule == 6 || rule == 12 || rule == 13 || rule == 14 || rule == 15 || rule == 17 || rule == 21 || rule == 23;
}

template <Direction kDirection, class T>
SPHERE_INLINE Update<T> land(int rule, const Gram<T>& gram, const Landing<T>& y,
                             const Update<T>& u, const Hyper<T>& h) {
  if constexpr (kServes<kDirection, kAdam>) {
    switch (rule) {
      case 12: return to_radius(gram, y, u, h);
      case 13: return to_radius(gram, y, u, h);
      case 14: return rotate(gram, y, u, h);
      case 21: return lamb(gram, y, u, h);
    }
  }
  if constexpr (kServes<kDirection, kMoment>) {
    switch (rule) {
      case 2: return transport(gram, y, u, h);
      case 3: return rescale_and_transport(gram, y, u, h);
      case 6: return transport_buffer(gram, y, u, h);
      case 23: return back_to_norm(gram, y, u, h);
    }
  }
  if constexpr (kServes<kDirection, kNesterov>) {
    switch (rule) {
      case 15: return rotate(gram, y, u, h);
    }
  }
  if constexpr (kServes<kDirection, kSign>) {
    switch (rule) {
      case 17: return rotate(gram, y, u, h);
    }
  }
  return u;
}

// What a rule that sees the whole tensor first asks of segments, and makes of it.
template <class T>
SPHERE_INLINE T peak(int rule, const Gram<T>& gram, const Hyper<T>& h) {
  switch (rule) {
    case 7: return cosine(gram, h);
    case 10: return cosine(gram, h);
  }
  return T(0);
}

template <class T>
SPHERE_INLINE T verdict(int rule, const Gram<T>& whole, T most, const Hyper<T>& h) {
  switch (rule) {
    case 7: return filters_or_tensor(whole, most, h);
    case 10: return filters_or_tensor(whole, most, h);
  }
  return T(1);
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
