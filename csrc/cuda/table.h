// What lies in the memory of a device between two steps, and what a kernel is told.
#pragma once

#include <cstddef>
#include <limits>

#include "../rules.gen.h"
#include "policy.h"

namespace sphere_fused {

// What is launched one after the other. The first two are of rules that see the whole tensor first.
enum Phase : int8_t {
  kSurveys,      // every segment's w and g, for the verdict
  kSurveysMore,  // what else is summed, where by the verdict the tensor is one segment
  kSteps,
  kPhases
};

// What has been surveyed of a tensor: sums, and the largest that the rule makes of a segment.
struct Surveyed {
  double sums[4] = {};
  double peak = -std::numeric_limits<double>::infinity();
};

// A parameter, with the hyperparameters that begin_step forms for its coming step.
struct Entry {
  Segments at;
  Tier tier;
  Direction direction;
  bool rests;                   // in the coming step
  int32_t shared_by;            // threads or blocks, where these share a row
  int64_t first_unit[kPhases];  // of its launch
  // Where it is surveyed: what is before it in the Exchange, the units that have been surveyed in
  // either phase, which are 0 when a step begins, and the sums over the tensor.
  int64_t first_survey;
  unsigned surveyed[2];
  Gram<double> whole;
  // Where its segments are long: what is before them in the Exchange, and the lag of turn_at.
  int64_t first_bundle, first_segment, first_sums, lag;
  Hyper<double> hyper;
  Hyper<float> hyper_in_float;
};

// How far a bundle of long segments is.
struct Progress {
  unsigned summed;  // pieces
  unsigned decided;
};

// What blocks tell each other of long segments, and of tensors that are surveyed. `next` and
// `progress` are 0 when a step begins.
struct Exchange {
  unsigned* next;           // unit for a block to take
  Progress* progress;       // by bundle
  Update<double>* updates;  // by segment, in what the arithmetic is done in
  double* sums;             // kSums by piece and segment of its bundle
  Surveyed* surveys;        // by unit
};

// The work of one launch: unit u is a piece of entries[entry_of[u]].
struct WorkList {
  Entry* entries;
  const int32_t* entry_of;
  unsigned units;
  Exchange exchange;
};

using Kernel = void (*)(WorkList);

// What changed since the last step, passed by value: no copy can be overtaken by the next one, and
// a graph can capture it. The gradients of consecutive entries; the groups are sorted by index.
struct NewGroup {
  int64_t index;
  GroupHyper hyper;
};
template <int kGradients, int kGroups>
struct Changes {
  static constexpr int64_t kMostGradients = kGradients, kMostGroups = kGroups;
  int64_t first_entry;
  int gradient_count, group_count;
  const void* gradients[kGradients];
  NewGroup groups[kGroups];
};
// Within the 4 KiB of parameters that every launch can have, and the 32,764 bytes since CUDA 12.1.
using FewChanges = Changes<120, 16>;
using ManyChanges = Changes<1800, 96>;
static_assert(sizeof(FewChanges) <= 4000 && sizeof(ManyChanges) <= 32600);

}  // namespace sphere_fused
