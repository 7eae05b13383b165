// The first kernel of a step: takes what changed on the host, counts the step, and forms the
// hyperparameters of every parameter.
#include "begin.cuh"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "../hyper.h"
#include "launch.cuh"
#include "policy.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {
namespace {

// What `changes` say of a group; null if nothing.
__device__ const NewGroup* find(const NewGroup* changes, int count, int64_t index) {
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
  for (int64_t c = i; counts && c < table.counter_count; c += int64_t(gridDim.x) * blockDim.x) {
    table.counters[c] = 0;
  }
  // Groups that are written here are read by nobody: the threads below take them from `changes`.
  if (i < changes.group_count) table.groups[changes.groups[i].index] = changes.groups[i].hyper;
  if (i >= table.entry_count) return;
  Entry& entry = table.entries[i];
  const int64_t changed = i - changes.first_entry;
  if (changed >= 0 && changed < changes.gradient_count) entry.at.g = changes.gradients[changed];
  if (!counts) return;
  const NewGroup* const with = find(changes.groups, changes.group_count, entry.at.group);
  const GroupHyper group = resolved(with ? with->hyper : table.groups[entry.at.group]);
  entry.rests = !entry.at.g || group.found_inf != 0;
  if (entry.rests) return;
  const double t = entry.at.step ? (*entry.at.step += 1) : 0.0;
  entry.hyper = hyper_at(group, entry.at, t);
  entry.hyper_in_float = rounded<float>(entry.hyper);
  entry.surveyed[0] = entry.surveyed[1] = 0;
}

// Sends what is left of the changes, as much as fits, and leaves the rest.
template <class Changes>
void send(const Table& table, const NewGradients& gradients, int64_t& sent_gradients,
          const std::vector<NewGroup>& groups, int64_t& sent_groups, bool counts, void* stream) {
  Changes changes = {};
  const auto take = [](const auto& from, int64_t& sent, auto& to) {
    const int64_t fitting = std::min<int64_t>(from.size() - sent, std::size(to));
    std::copy_n(from.begin() + sent, fitting, to);
    sent += fitting;
    return int(fitting);
  };
  changes.first_entry = gradients.first + sent_gradients;
  changes.gradient_count = take(gradients.data, sent_gradients, changes.gradients);
  changes.group_count = take(groups, sent_groups, changes.groups);
  constexpr int64_t kEnoughToClear = 1 << 16;
  const int64_t threads = std::max({table.entry_count, int64_t(changes.group_count),
                                    std::min(table.counter_count, kEnoughToClear)});
  launch(begin_entries<Changes>, {ceil_div(threads, kThreads), 1, kThreads, 0, stream}, table,
         changes, counts);
}

}  // namespace
}  // namespace SPHERE_ISA

void load_begin_step() {
  cudaFuncAttributes unused;
  check(cudaFuncGetAttributes(&unused, begin_entries<FewChanges>), "loading a kernel");
  check(cudaFuncGetAttributes(&unused, begin_entries<ManyChanges>), "loading a kernel");
}

void begin_step(const Table& table, const NewGradients& gradients,
                const std::vector<NewGroup>& groups, void* stream) {
  int64_t sent_gradients = 0, sent_groups = 0;
  const auto fit = [&]<class Changes>(std::type_identity<Changes>) {
    return int64_t(gradients.data.size()) <= sent_gradients + Changes::kMostGradients &&
           int64_t(groups.size()) <= sent_groups + Changes::kMostGroups;
  };
  const auto send_some = [&]<class Changes>(std::type_identity<Changes>, bool counts) {
    send<Changes>(table, gradients, sent_gradients, groups, sent_groups, counts, stream);
  };
  const std::type_identity<FewChanges> few{};
  const std::type_identity<ManyChanges> many{};
  while (!fit(many)) send_some(many, false);
  if (fit(few)) send_some(few, true);
  else send_some(many, true);
}

}  // namespace sphere_fused
