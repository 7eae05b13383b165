// What begins a step.
#pragma once

#include <vector>

#include "table.h"

namespace sphere_fused {

// Those of entry number `first` and of the following.
struct NewGradients {
  int64_t first;
  std::vector<const void*> data;
};

// What a device keeps of a plan, and what every step begins by bringing up to date.
struct Table {
  Entry* entries;
  int64_t entry_count;
  GroupHyper* groups;
  unsigned* counters;  // of long segments
  int64_t counter_count;
};

// Has its kernels loaded, which otherwise their first launch does: that may come in a capture.
// Throws std::runtime_error if CUDA refuses.
void load_begin_step();

// Brings entries and groups up to date, counts the step of every entry that has a gradient, forms
// its hyperparameters, and sets the counters to 0. Throws std::runtime_error if CUDA refuses.
void begin_step(const Table& table, const NewGradients& gradients,
                const std::vector<NewGroup>& groups, void* stream);

}  // namespace sphere_fused
