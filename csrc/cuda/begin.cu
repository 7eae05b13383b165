// The first kernel of a step: takes what changed on the host, counts the step, and forms the
// hyperparameters of every parameter.
#include "begin.cuh"

#include <algorithm>
#include <iterator>

#include "../hyper.h"
#include "launch.cuh"
#include "policy.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {
namespace {

// What `changes`, sorted, say of number `index`; null if nothing.
template <class Change>
__device__ const Change* find(const Change* changes, int count, int64_t index) {
  int first = 0, last = count;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (changes[middle].index < index) first = middle + 1;
    else last = middle;
  }
  return first < count && changes[first].index == index ? changes + first : nullptr;
}

// With what the device keeps itself.
__device__ GroupHyper resolved(GroupHyper group) {
  if (group.lr_at) {
    group.lr = group.lr_is_double ? *static_cast<const double*>(group.lr_at)
                                  : *static_cast<const float*>(group.lr_at);
  }
  if (group.grad_scale_at) group.grad_scale = *group.grad_scale_at;
  if (group.found_inf_at) group.found_inf = *group.found_inf_at;
  return group;
}

// A thread per entry, and more where there are many counters. With `counts` the step begins;
// without, more changes are still to come.
template <class Changes>
__global__ void begin_entries(Table table, const __grid_constant__ Changes changes, bool counts) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t c = i; c < table.counter_count; c += int64_t(gridDim.x) * blockDim.x) {
    table.counters[c] = 0;
  }
  // Groups that are written here are read by nobody: the threads below take them from `changes`.
  if (i < changes.group_count) table.groups[changes.groups[i].index] = changes.groups[i].hyper;
  if (i >= table.entry_count) return;
  Entry& entry = table.entries[i];
  const NewGradient* const gradient = find(changes.gradients, changes.gradient_count, i);
  if (gradient) entry.at.g = gradient->g;
  if (!counts) return;
  const NewGroup* const changed = find(changes.groups, changes.group_count, entry.at.group);
  const GroupHyper group = resolved(changed ? changed->hyper : table.groups[entry.at.group]);
  entry.rests = !entry.at.g || group.found_inf != 0;
  if (entry.rests) return;
  const double t = entry.at.step ? (*entry.at.step += 1) : 0.0;
  Hyper<double> h = hyper_at(group, t);
  h.sqrt_dim = sqrt(double(entry.at.dim));
  entry.hyper = h;
  entry.hyper_in_float = rounded<float>(h);
}

// Sends the changes from these on, as many as fit.
template <class Changes>
void send(const Table& table, const std::vector<NewGradient>& new_gradients, size_t first_gradient,
          const std::vector<NewGroup>& new_groups, size_t first_group, bool counts, void* stream) {
  Changes changes = {};
  const auto take = [](const auto& from, size_t first, auto& to) {
    if (first >= from.size()) return 0;
    const size_t fitting = std::min(from.size() - first, std::size(to));
    std::copy_n(from.begin() + first, fitting, to);
    return int(fitting);
  };
  changes.gradient_count = take(new_gradients, first_gradient, changes.gradients);
  changes.group_count = take(new_groups, first_group, changes.groups);
  constexpr int64_t kEnoughToClear = 1 << 16;
  const int64_t threads = std::max({table.entry_count, int64_t(changes.group_count),
                                    std::min(table.counter_count, kEnoughToClear)});
  launch(begin_entries<Changes>, ceil_div(threads, kThreads), 1, kThreads, 0, stream, table,
         changes, counts);
}

}  // namespace
}  // namespace SPHERE_ISA

void begin_step(const Table& table, const std::vector<NewGradient>& new_gradients,
                const std::vector<NewGroup>& new_groups, void* stream) {
  size_t gradient = 0, group = 0;
  while (gradient + ManyChanges::kMostGradients < new_gradients.size() ||
         group + ManyChanges::kMostGroups < new_groups.size()) {
    send<ManyChanges>(table, new_gradients, gradient, new_groups, group, false, stream);
    gradient += ManyChanges::kMostGradients;
    group += ManyChanges::kMostGroups;
  }
  const bool few = new_gradients.size() <= gradient + FewChanges::kMostGradients &&
                   new_groups.size() <= group + FewChanges::kMostGroups;
  (few ? send<FewChanges> : send<ManyChanges>)(table, new_gradients, gradient, new_groups, group,
                                               true, stream);
}

}  // namespace sphere_fused
