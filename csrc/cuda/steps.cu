// Sorts the parameters of a device into launches, and enqueues a step. No arithmetic.
#include "steps.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "begin.cuh"
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

// Appends `count` of T, aligned, with these values or 0. Returns where they begin.
template <class T>
size_t append(std::vector<unsigned char>& image, const T* values, size_t count) {
  const size_t at = (image.size() + 15) / 16 * 16;
  image.resize(at + count * sizeof(T));
  if (values && count) std::memcpy(image.data() + at, values, count * sizeof(T));
  return at;
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
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    return std::string("no GPU can be used: ") +
           (error ? cudaGetErrorString(error) : "there is none");
  }
  if (device >= count) return "there is no GPU number " + std::to_string(device);
  cudaError_t error = cudaSetDevice(device);
  cudaFuncAttributes attributes;
  if (error == cudaSuccess)
    error = cudaFuncGetAttributes(&attributes, kFloat32Kernels.at[kMoment][true][kWarpRows]);
  if (error == cudaSuccess) return "";
  if (error == cudaErrorNoKernelImageForDevice) {
    return "the kernels were not built for this GPU: install sphere_fused again with "
           "TORCH_CUDA_ARCH_LIST set to its compute capability";
  }
  return std::string("GPU ") + std::to_string(device) + ": " + cudaGetErrorString(error);
}

CudaSteps::CudaSteps(int device, std::vector<size_t> indices, const std::vector<Segments>& table,
                     size_t group_count)
    : device_(device), indices_(std::move(indices)), groups_(group_count) {
  std::vector<Entry> entries;
  std::vector<std::vector<int32_t>> maps;
  for (size_t i : indices_) {
    const Segments& at = table.at(i);
    const int w_size = size_of(at.w_type), g_size = size_of(at.g_type);
    const int arithmetic = std::max(w_size, int(sizeof(float)));
    const Direction direction = kRules[at.rule].direction;
    const Tier tier = tier_of(at.dim, at.inner, arithmetic, direction == kPrevious);
    const int vector = vector_of(w_size, g_size);
    const Kernel kernel =
        kernels_for(at.w_type, at.g_type).at[direction][at.dim % vector == 0][tier];
    if (!kernel) throw std::runtime_error("no CUDA kernel for this rule and layout");
    size_t l = 0;
    while (l < launches_.size() && launches_[l].kernel != kernel) ++l;
    if (l == launches_.size()) {
      launches_.push_back({kernel, shared_bytes(tier, arithmetic), 0, 0});
      maps.emplace_back();
    }
    const int64_t units = units_of(tier, at.outer, at.inner, vector);
    maps[l].insert(maps[l].end(), size_t(units), int32_t(entries.size()));
    entries.push_back({at, launches_[l].units, {}, {}});
    launches_[l].units += units;
    g_types_.push_back(at.g_type);
    gradients_.push_back(at.g);
  }
  append(image_, entries.data(), entries.size());
  groups_at_ = append<GroupHyper>(image_, nullptr, group_count);
  for (size_t l = 0; l < launches_.size(); ++l) {
    launches_[l].map = append(image_, maps[l].data(), maps[l].size());
  }
}

bool CudaSteps::fits(const std::vector<Segments>& table) const {
  for (size_t i = 0; i < indices_.size(); ++i) {
    if (table[indices_[i]].g && table[indices_[i]].g_type != g_types_[i]) return false;
  }
  return true;
}

void CudaSteps::begin(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
                      void* memory, void* stream) {
  new_gradients_.clear();
  new_groups_.clear();
  for (size_t i = 0; i < indices_.size(); ++i) {
    const void* const g = table[indices_[i]].g;
    if (gradients_[i] != g) new_gradients_.push_back({int64_t(i), g});
    gradients_[i].reset();
  }
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i] != groups[i]) new_groups_.push_back({int64_t(i), groups[i]});
    groups_[i].reset();
  }
  unsigned char* const base = static_cast<unsigned char*>(memory);
  begin_step(reinterpret_cast<Entry*>(base), int64_t(indices_.size()),
             reinterpret_cast<GroupHyper*>(base + groups_at_), new_gradients_, new_groups_, stream);
  for (size_t i = 0; i < indices_.size(); ++i) gradients_[i] = table[indices_[i]].g;
  for (size_t i = 0; i < groups_.size(); ++i) groups_[i] = groups[i];
}

void CudaSteps::step(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
                     void* memory, void* stream, int64_t most_blocks, bool /*capturing*/) {
  check(cudaSetDevice(device_), "choosing the GPU of a step");
  begin(table, groups, memory, stream);
  unsigned char* const base = static_cast<unsigned char*>(memory);
  for (const Launch& l : launches_) {
    const WorkList work = {reinterpret_cast<const Entry*>(base),
                           reinterpret_cast<const int32_t*>(base + l.map), l.units};
    launch(l.kernel, std::min(l.units, most_blocks), kThreads, l.shared_bytes, stream, work);
  }
}

}  // namespace sphere_fused
