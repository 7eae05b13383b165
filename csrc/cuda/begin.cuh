// What begins a step.
#pragma once

#include <vector>

#include "table.h"

namespace sphere_fused {

// Brings `entries` and `groups`, in the device's memory, up to date, counts the step of every entry
// with a gradient, and forms its hyperparameters. Throws std::runtime_error if CUDA refuses.
void begin_step(Entry* entries, int64_t count, GroupHyper* groups,
                const std::vector<NewGradient>& new_gradients,
                const std::vector<NewGroup>& new_groups, void* stream);

}  // namespace sphere_fused
