// What a step is told: plain structs, the same on every device.
#pragma once

#include <cstdint>

// Each object file of csrc names its own namespace, so that no template instantiated for one
// instruction set is ever linked into code for another.
#ifndef SPHERE_ISA
#define SPHERE_ISA host
#endif

namespace sphere_fused {

enum DType : int8_t { kFloat32, kFloat64, kBFloat16, kFloat16 };

// What x is; see Rule in sphere_fused/rule.py.
enum Direction : int8_t { kMoment, kPrevious, kAdam, kNesterov, kSign, kDirections };

// Whether code that is compiled for one direction steps rules of another: kNesterov's may choose
// when it runs.
template <Direction kCompiled, Direction kDirection>
inline constexpr bool kServes =
    kCompiled == kDirection || (kCompiled == kNesterov && kDirection == kSign);

struct RuleInfo {
  const char* name;
  Direction direction;
  bool surveys;  // decides over the whole tensor first
};

// One parameter. Element (o, d, i) of segment (o, i) lies at (o*dim + d)*inner + i; what is kept of
// segment (o, i), at o*inner + i.
struct Segments {
  void* w;
  const void* g;       // null: nothing to do
  void* m;             // null where no first moment is kept; not where v is
  void* v;             // second moment per element; null where none is kept
  void* s;             // what the rule keeps per segment; null where it keeps nothing
  const void* radius;  // the norm of each segment that the rule keeps; null where it keeps none
  float* step;         // null where steps are not counted
  int64_t outer, dim, inner;
  int32_t group;
  int8_t rule;  // negative: one that is not compiled in
  DType w_type, g_type;
  bool elementwise;  // nothing is summed: the rule is the classic one
  bool on_cpu;       // to be stepped there
};

// Hyperparameters that a rule may have of its own.
inline constexpr int kMostOwn = 4;

// The hyperparameters of a group, as plan.GroupHyper explains them, in its order.
struct GroupHyper {
  double lr, beta1, gain1, beta2, eps, weight_decay;
  bool decoupled;
  double grad_clip, beta3, ahead_m, ahead_g;
  bool corrects, maximize;
  double own[kMostOwn] = {};
  double grad_scale = 1, found_inf = 0;
  // Where a device keeps those that it must read itself; null where the numbers above hold.
  const void* lr_at = nullptr;
  bool lr_is_double = false;  // what lies there, else a float
  const float* grad_scale_at = nullptr;
  const float* found_inf_at = nullptr;

  bool operator==(const GroupHyper&) const = default;
};

}  // namespace sphere_fused
