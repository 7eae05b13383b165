// Launching kernels.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace sphere_fused {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorString(error) +
                           ". If an earlier kernel on this GPU is to blame, CUDA_LAUNCH_BLOCKING=1 "
                           "in the environment shows which.");
}

// `cluster`: blocks of the grid that run together and reach each other's shared memory.
struct ClusterLaunch {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute of_cluster = {};

  ClusterLaunch(int64_t blocks, int cluster, int threads, int shared_bytes, void* stream) {
    config.gridDim = dim3(unsigned(blocks));
    config.blockDim = dim3(unsigned(threads));
    config.dynamicSmemBytes = size_t(shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream);
    of_cluster.id = cudaLaunchAttributeClusterDimension;
    of_cluster.val.clusterDim.x = unsigned(cluster);
    of_cluster.val.clusterDim.y = of_cluster.val.clusterDim.z = 1;
    config.attrs = &of_cluster;
    config.numAttrs = cluster > 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;  // config points into it
};

template <class... Expected, class... Arguments>
void launch(void (*kernel)(Expected...), const ClusterLaunch& how, const Arguments&... arguments) {
  check(cudaLaunchKernelEx(&how.config, kernel, arguments...), "launching a step");
}

}  // namespace sphere_fused
