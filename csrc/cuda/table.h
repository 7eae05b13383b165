// What lies in the memory of a device between two steps, and what a kernel is told.
#pragma once

#include <cstddef>

#include "../rules.gen.h"
#include "policy.h"

namespace sphere_fused {

// A parameter, with the hyperparameters that begin_step forms for its coming step.
struct Entry {
  Segments at;
  Tier tier;
  Direction direction;
  bool rests;          // in the coming step
  int32_t shared_by;   // threads or blocks, where these share a row
  int64_t first_unit;  // of its launch
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

// What blocks tell each other of long segments. `next` and `progress` are 0 when a step begins.
struct Exchange {
  unsigned* next;           // unit for a block to take
  Progress* progress;       // by bundle
  Update<double>* updates;  // by segment, in what the arithmetic is done in
  double* sums;             // kSums by piece and segment of its bundle
};

// The work of one launch: unit u is a piece of entries[entry_of[u]].
struct WorkList {
  const Entry* entries;
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
using FewChanges = Changes<240, 16>;
using ManyChanges = Changes<2000, 120>;
static_assert(sizeof(FewChanges) <= 4000 && sizeof(ManyChanges) <= 32600);

}  // namespace sphere_fused
