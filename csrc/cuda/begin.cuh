// What begins a step.
#pragma once

#include <vector>

#include "table.h"

namespace sphere_fused {

// What a device keeps of a plan, and what every step begins by bringing up to date.
struct Table {
  Entry* entries;
  int64_t entry_count;
  GroupHyper* groups;
  unsigned* counters;  // of long segments
  int64_t counter_count;
};

// Brings entries and groups up to date, counts the step of every entry that has a gradient, forms
// its hyperparameters, and sets the counters to 0. Throws std::runtime_error if CUDA refuses.
void begin_step(const Table& table, const std::vector<NewGradient>& new_gradients,
                const std::vector<NewGroup>& new_groups, void* stream);

}  // namespace sphere_fused
