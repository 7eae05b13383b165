// Sorts the parameters of a device into launches, and enqueues a step. No arithmetic.
#include "steps.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "launch.cuh"
#include "step.cuh"

namespace sphere_fused {
namespace {

int size_of(DType type) {
  return type == kFloat64 ? 8 : type == kFloat32 ? 4 : 2;
}

const Kernels& kernels_for(DType w, DType g) {
  const bool wide = g == kFloat32;
  switch (w) {
    case kFloat64:
      return wide ? kFloat64Float32Kernels : kFloat64Kernels;
    case kBFloat16:
      return wide ? kBFloat16Float32Kernels : kBFloat16Kernels;
    case kFloat16:
      return wide ? kFloat16Float32Kernels : kFloat16Kernels;
    default:
      return kFloat32Kernels;
  }
}

// The next offset where anything may lie.
size_t aligned(size_t offset) {
  return (offset + 15) / 16 * 16;
}

// Appends `count` of T with these values or 0. Returns where they begin.
template <class T>
size_t append(std::vector<unsigned char>& image, const T* values, size_t count) {
  const size_t at = aligned(image.size());
  image.resize(at + count * sizeof(T));
  if (values && count) std::memcpy(image.data() + at, values, count * sizeof(T));
  return at;
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "asking for the properties of the GPU");
  return value;
}

// Whether the code that runs here was compiled for clusters, and the largest fits. (PTX of 8.0 runs
// on a GPU that has them.)
bool has_clusters() {
  const Kernel kernel = kFloat32Kernels.of(kClusterRows, kMoment, true);
  cudaFuncAttributes compiled;
  check(cudaFuncGetAttributes(&compiled, kernel), "loading a kernel");
  if (compiled.ptxVersion < 90) return false;
  ClusterLaunch largest(kMostBlocks, kMostBlocks, kThreads, shared_bytes(kClusterRows, 8), nullptr);
  int fitting = 0;
  check(cudaOccupancyMaxActiveClusters(&fitting, kernel, &largest.config),
        "asking how many clusters fit");
  return fitting > 0;
}

}  // namespace

std::string cuda_problem(int device) {
  int driver = 0, built = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&built);
  const auto version = [](int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  };
  if (driver == 0) return "no NVIDIA driver is installed";
  if (driver / 1000 < built / 1000) {
    return "the NVIDIA driver is too old: it supports CUDA " + version(driver) +
           ", and the kernels were built with CUDA " + version(built) +
           ". Update the driver, or install sphere_fused again with an older nvcc on PATH";
  }
  if (driver < 12010) {
    return "the NVIDIA driver is too old: it supports CUDA " + version(driver) +
           ", and the kernels need 12.1. Update the driver";
  }
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    return std::string("no GPU can be used: ") +
           (error ? cudaGetErrorString(error) : "there is none");
  }
  if (device >= count) return "there is no GPU number " + std::to_string(device);
  cudaError_t error = cudaSetDevice(device);
  cudaFuncAttributes attributes;
  if (error == cudaSuccess)
    error = cudaFuncGetAttributes(&attributes, kFloat32Kernels.of(kRows, kMoment, true));
  if (error == cudaSuccess) return "";
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    return "the kernels were not built for this GPU: install sphere_fused again with "
           "TORCH_CUDA_ARCH_LIST set to its compute capability";
  }
  return std::string("GPU ") + std::to_string(device) + ": " + cudaGetErrorString(error);
}

CudaSteps::CudaSteps(int device, std::vector<size_t> indices, const std::vector<Segments>& table,
                     size_t group_count)
    : device_(device), indices_(std::move(indices)), groups_(group_count) {
  check(cudaSetDevice(device_), "choosing the GPU of a step");
  load_begin_step();
  lay_out(table);
}

// The launch of such a kernel, after those that are known.
CudaSteps::Launch& CudaSteps::launch_of(Phase phase, Kernel kernel, int cluster, int shared_bytes,
                                        bool waits) {
  if (!kernel) throw std::runtime_error("no CUDA kernel for this rule and layout");
  for (Launch& l : launches_) {
    if (l.kernel == kernel && l.cluster == cluster) {
      l.shared_bytes = std::max(l.shared_bytes, shared_bytes);
      return l;
    }
  }
  cudaFuncAttributes unused;  // has it loaded, now and not in a capture
  check(cudaFuncGetAttributes(&unused, kernel), "loading a kernel");
  int64_t resident = 0;
  if (waits) {
    int per_processor = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, kThreads,
                                                        shared_bytes),
          "asking how many blocks fit");
    const int processors = attribute(cudaDevAttrMultiProcessorCount, device_);
    resident = int64_t(std::max(per_processor, 1)) * processors;
  }
  launches_.push_back({phase, kernel, cluster, shared_bytes, resident});
  return launches_.back();
}

void CudaSteps::lay_out(const std::vector<Segments>& table) {
  const bool clusters = has_clusters();
  Direction rows = kMoment;
  for (size_t i : indices_) {
    if (!table.at(i).elementwise) rows = compiled_as(kRules[table[i].rule].direction);
  }
  std::vector<Entry> entries;
  // Who takes part in a launch, and with how many units.
  struct Member {
    size_t entry, launch;
    int64_t units;
  };
  std::vector<Member> members;
  int64_t bundles = 0, segments = 0, sums = 0, surveys = 0;
  const auto join = [&](size_t entry, const Launch& launch, int64_t units) {
    members.push_back({entry, size_t(&launch - launches_.data()), units});
  };

  for (size_t i : indices_) {
    Entry entry = {};
    entry.at = table[i];
    entry.direction = kRules[entry.at.rule].direction;
    entries.push_back(entry);
    g_types_.push_back(entry.at.g_type);
    gradients_.push_back(entry.at.g);
  }
  for (Phase phase : {kSurveys, kSurveysMore}) {
    for (size_t e = 0; e < entries.size(); ++e) {
      const Segments& at = entries[e].at;
      if (!kRules[at.rule].surveys) continue;
      const Kernels& kernels = kernels_for(at.w_type, at.g_type);
      const Kernel kernel = phase == kSurveys
                                ? kernels.surveys
                                : kernels.surveys_more[compiled_as(entries[e].direction)];
      join(e, launch_of(phase, kernel, 1, shared_bytes(kColumns, 8), false),
           phase == kSurveys ? units_to_survey(at.outer, at.dim, at.inner)
                             : ceil_div(at.outer * at.dim * at.inner, kSurveyed));
    }
  }
  for (size_t e = 0; e < entries.size(); ++e) {
    Entry& entry = entries[e];
    const Segments& at = entry.at;
    const int w_size = size_of(at.w_type), size = std::max(w_size, int(sizeof(float)));
    const int vector = vector_of(w_size, size_of(at.g_type));
    entry.tier =
        at.elementwise ? kElements : tier_of(at.dim, at.inner, size, entry.direction, clusters);
    if (entry.tier == kRows) entry.shared_by = threads_of(at.dim, size, entry.direction);
    if (entry.tier == kClusterRows) entry.shared_by = blocks_of(at.dim, size, entry.direction);
    // Single elements of Adam go along with the small rows of their model.
    const bool along = entry.tier == kElements && entry.direction == kAdam;
    const Direction compiled = along ? rows : compiled_as(entry.direction);
    const bool waits = entry.tier == kLongRows || entry.tier == kLongColumns;
    const Launch& launch = launch_of(
        kSteps, kernels_for(at.w_type, at.g_type).of(entry.tier, compiled, at.dim % vector == 0),
        entry.tier == kClusterRows ? entry.shared_by : 1, shared_bytes(entry.tier, size), waits);
    if (waits) {
      const int64_t each = ceil_div(at.dim, piece_of(entry.tier, size));
      const int64_t here = bundles_of(entry.tier, at.outer, at.inner);
      const int64_t slots = here * segments_in_bundle(entry.tier);
      entry.lag = lag_of(here * each, each, launch.resident);
      entry.first_bundle = bundles;
      entry.first_segment = segments;
      entry.first_sums = sums;
      bundles += here;
      segments += slots;
      sums += slots * each * kSums;
    }
    join(e, launch,
         units_of(entry.tier, at.outer, at.dim, at.inner, size, vector, entry.direction));
  }

  // Large units first: the small ones fill the gaps at the end.
  const auto weight = [&](const Member& m) {
    const Segments& at = entries[m.entry].at;
    return at.outer * at.dim * at.inner / std::max<int64_t>(m.units, 1);
  };
  std::stable_sort(members.begin(), members.end(),
                   [&](const Member& a, const Member& b) { return weight(a) > weight(b); });
  std::vector<std::vector<int32_t>> maps(launches_.size());
  for (const Member& m : members) {
    Launch& launch = launches_[m.launch];
    entries[m.entry].first_unit[launch.phase] = launch.units;
    launch.units += m.units;
    if (launch.units > INT32_MAX) throw std::runtime_error("the tensors of a GPU are too many");
    maps[m.launch].resize(size_t(launch.units), int32_t(m.entry));
  }
  for (Entry& entry : entries) {
    if (!kRules[entry.at.rule].surveys) continue;
    entry.first_survey = surveys;
    const Segments& at = entry.at;
    surveys += std::max(units_to_survey(at.outer, at.dim, at.inner),
                        ceil_div(at.outer * at.dim * at.inner, kSurveyed));
  }

  append(image_, entries.data(), entries.size());
  groups_at_ = append<GroupHyper>(image_, nullptr, groups_.size());
  for (size_t l = 0; l < launches_.size(); ++l) {
    launches_[l].map = append(image_, maps[l].data(), maps[l].size());
  }
  counter_count_ = int64_t(launches_.size()) + 2 * bundles;
  counters_at_ = aligned(image_.size());
  updates_at_ = aligned(counters_at_ + size_t(counter_count_) * sizeof(unsigned));
  sums_at_ = aligned(updates_at_ + size_t(segments) * sizeof(Update<double>));
  surveys_at_ = aligned(sums_at_ + size_t(sums) * sizeof(double));
  memory_bytes_ = surveys_at_ + size_t(surveys) * sizeof(Surveyed);
}

bool CudaSteps::fits(const std::vector<Segments>& table) const {
  for (size_t i = 0; i < indices_.size(); ++i) {
    if (table[indices_[i]].g && table[indices_[i]].g_type != g_types_[i]) return false;
  }
  return true;
}

void CudaSteps::begin(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
                      unsigned char* memory, void* stream) {
  // From the first that changed to the last.
  size_t first = indices_.size(), end = 0;
  for (size_t i = 0; i < indices_.size(); ++i) {
    if (!captured_ && gradients_[i] == table[indices_[i]].g) continue;
    first = std::min(first, i);
    end = i + 1;
  }
  new_gradients_.first = int64_t(first);
  new_gradients_.data.clear();
  for (size_t i = first; i < end; ++i) new_gradients_.data.push_back(table[indices_[i]].g);
  for (auto& g : gradients_) g.reset();
  new_groups_.clear();
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (captured_ || groups_[i] != groups[i]) new_groups_.push_back({int64_t(i), groups[i]});
    groups_[i].reset();
  }
  const Table known = {reinterpret_cast<Entry*>(memory), int64_t(indices_.size()),
                       reinterpret_cast<GroupHyper*>(memory + groups_at_),
                       reinterpret_cast<unsigned*>(memory + counters_at_), counter_count_};
  begin_step(known, new_gradients_, new_groups_, stream);
  for (size_t i = 0; i < indices_.size(); ++i) gradients_[i] = table[indices_[i]].g;
  for (size_t i = 0; i < groups_.size(); ++i) groups_[i] = groups[i];
}

void CudaSteps::step(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
                     void* memory, void* stream, int64_t most_blocks, bool capturing) {
  check(cudaSetDevice(device_), "choosing the GPU of a step");
  // A graph must bring with it all that its steps need, and may, replayed, change what was noted.
  captured_ |= capturing;
  unsigned char* const base = static_cast<unsigned char*>(memory);
  begin(table, groups, base, stream);
  unsigned* const counters = reinterpret_cast<unsigned*>(base + counters_at_);
  auto* const progress = reinterpret_cast<Progress*>(counters + launches_.size());
  for (size_t i = 0; i < launches_.size(); ++i) {
    const Launch& l = launches_[i];
    const Exchange exchange = {counters + i, progress,
                               reinterpret_cast<Update<double>*>(base + updates_at_),
                               reinterpret_cast<double*>(base + sums_at_),
                               reinterpret_cast<Surveyed*>(base + surveys_at_)};
    const WorkList work = {reinterpret_cast<Entry*>(base),
                           reinterpret_cast<const int32_t*>(base + l.map), unsigned(l.units),
                           exchange};
    const int64_t most = l.resident ? std::min(l.resident, most_blocks) : most_blocks;
    const int64_t whole_clusters = std::max<int64_t>(most / l.cluster, 1) * l.cluster;
    const int64_t blocks = std::min(l.units, whole_clusters);
    launch(l.kernel, {blocks, l.cluster, kThreads, l.shared_bytes, stream}, work);
  }
}

}  // namespace sphere_fused
