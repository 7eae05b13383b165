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

template <class... Expected, class... Arguments>
void launch(void (*kernel)(Expected...), int64_t blocks, int threads, int shared_bytes,
            void* stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = size_t(shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "launching a step");
}

}  // namespace sphere_fused
