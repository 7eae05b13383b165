// Of the kernels with faults and of what else is tested of the shim. A kernel that goes well leaves
// 1 in every element of `out`; `in` is as long and full of ones.
#pragma once

#include <cuda_runtime.h>

#include <span>

constexpr unsigned kThreads = 64;
constexpr unsigned kAll = 0xffffffff;

struct Case {
  const char* name;
  void (*faulty)(float*, const float*);
  void (*clean)(float*, const float*);
  unsigned missing_bytes = 0;  // of shared memory, in the faulty launch
  unsigned threads = kThreads;
  unsigned cluster = 1;  // blocks
};

#define CASE(name) #name, name<true>, name<false>

extern const std::span<const Case> kCasesOfManyBlocks;

// What is no fault; 0 if all is well.
struct Check {
  const char* name;
  int (*run)();
};
extern const std::span<const Check> kChecks;

// In the GPU's memory, 0 when a kernel begins.
extern unsigned flag, arrived;

__device__ inline float* shared_floats() {
  return static_cast<float*>(simt::shared_memory());
}

__device__ inline unsigned index() {
  return blockIdx.x * blockDim.x + threadIdx.x;
}
