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

// What x is; see sphere_fused/rule.py.
enum Direction : int8_t { kMoment, kPrevious, kAdam, kDirections };
enum SecondMoment : int8_t { kPerSegment, kPerElement, kNoSecond };

struct RuleInfo {
  const char* name;
  Direction direction;
  SecondMoment second;
};

// One parameter. Element (o, d, i) of segment (o, i) lies at (o*dim + d)*inner + i; the state of
// segment (o, i), where it has one, at o*inner + i.
struct Segments {
  void* w;
  const void* g;  // null: nothing to do
  void* m;        // null where no first moment is kept
  void* s;        // second moment, one per segment or per element; null where none is kept
  float* step;    // null where steps are not counted
  int64_t outer, dim, inner;
  int32_t group;
  int8_t rule;  // negative: one that is not compiled in
  DType w_type, g_type;
  bool on_cpu;  // to be stepped there
};

// The hyperparameters of a group, as plan.GroupHyper explains them.
struct GroupHyper {
  double lr, beta1, gain1, beta2, eps, weight_decay;
  bool decoupled;
  double grad_clip;
  double grad_scale = 1, found_inf = 0;
  // Where a device keeps those that it must read itself; null where the numbers above hold.
  const void* lr_at = nullptr;
  bool lr_is_double = false;  // what lies there, else a float
  const float* grad_scale_at = nullptr;
  const float* found_inf_at = nullptr;

  bool operator==(const GroupHyper&) const = default;
};

}  // namespace sphere_fused
