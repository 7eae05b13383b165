// What our kernels use of CUDA, for g++: a launch runs on the CPU, every CUDA thread of a block as
// a fiber of its own, so that the sanitizers see each of its reads and writes. What is not here is
// not simulated, and does not compile. The scheduler is in schedule.h, what threads do together in
// simt.cpp; clusters have a header of their own, cooperative_groups.h.
#pragma once

// Before __CUDACC__ is defined, which some of them would take at its word.
#include <math.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#define __CUDACC__ 1
#define __SIMT__ 1
#define CUDART_VERSION 13000

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

struct __align__(8) uint2 {
  unsigned x, y;
};

struct __align__(16) uint4 {
  unsigned x, y, z, w;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
};

using cudaStream_t = struct CUstream_st*;

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
};

enum cudaLaunchAttributeID {
  cudaLaunchAttributeCooperative = 2,  // refused by a launch
  cudaLaunchAttributeClusterDimension = 4,
};

union cudaLaunchAttributeValue {
  struct {
    unsigned x, y, z;
  } clusterDim;
  int cooperative;
};

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

struct cudaFuncAttributes {
  size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
  int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion;
};

namespace simt {

// Of the thread that is running. The scheduler writes it at every switch.
struct Here {
  uint3 thread, block;
  dim3 block_size, grid_size;
  void* shared_memory;
};
extern Here here;

// The line that what threads do together was called from.
struct Site {
  const char* file;
  int line;
};

bool wait_for_block(const char* operation, bool vote, Site);  // returns whether any thread votes
void wait_for_count(const char* operation, unsigned barrier, unsigned count, Site);
uint64_t wait_for_warp(const char* operation, unsigned mask, uint64_t value, unsigned source, Site);
unsigned lane();
void sleep(const char* operation, Site);
void fence();
// An atomic operation is none of the scheduler's business, but a thread that waits for another by
// nothing else would never let it run. This fails when it looks like that.
void note_atomic(const char* operation, bool changed, Site);

cudaError_t get_attribute(int* value, cudaDeviceAttr, int device);
cudaError_t launch(const cudaLaunchConfig_t&, void (*run_thread)(const void*), const void* kernel);
cudaError_t take_last_error();
int capability();  // the major number of what is simulated

// In place of stream capture, cudaGraphInstantiate and cudaGraphLaunch: while this is not null,
// launches go there, to be called in order.
using Graph = std::vector<std::function<cudaError_t()>>;
inline Graph* captures_into = nullptr;

// In place of `extern __shared__`: a block of the heap, exactly as long as the launch asks for, and
// full of NaN; null where it asks for none.
inline void* shared_memory() {
  return here.shared_memory;
}

template <class T, class... Choices>
concept OneOf = (std::same_as<T, Choices> || ...);

template <class T>
concept Shuffled =
    OneOf<T, float, double, int, unsigned, long, unsigned long, long long, unsigned long long>;

template <Shuffled T>
T shuffle(const char* operation, unsigned mask, T value, unsigned source, Site site) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = wait_for_warp(operation, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Exact at multiples of one half, as CUDA's are; through macros, because a newer libm has them too.
inline double sinpi(double x) {
  double r = std::remainder(x, 2.0);
  if (std::fabs(r) > 0.5) r = std::copysign(1.0, r) - r;
  return std::sin(3.14159265358979323846 * r);
}
inline double cospi(double x) {
  return std::sin(3.14159265358979323846 * (0.5 - std::fabs(std::remainder(x, 2.0))));
}
inline float sinpif(float x) {
  return static_cast<float>(sinpi(x));
}
inline float cospif(float x) {
  return static_cast<float>(cospi(x));
}
inline float rsqrtf(float x) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(x)));
}

}  // namespace simt

#define sinpi simt::sinpi
#define cospi simt::cospi
#define sinpif simt::sinpif
#define cospif simt::cospif
#define rsqrtf simt::rsqrtf

// References, so that kernels cannot write them and the compiler still reads them after a barrier.
inline const uint3& threadIdx = simt::here.thread;
inline const uint3& blockIdx = simt::here.block;
inline const dim3& blockDim = simt::here.block_size;
inline const dim3& gridDim = simt::here.grid_size;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::wait_for_block("__syncthreads", false, {file, line});
}

inline int __syncthreads_or(int vote, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
  return simt::wait_for_block("__syncthreads_or", vote != 0, {file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffff, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  simt::wait_for_warp("__syncwarp", mask, 0, simt::lane(), {file, line});
}

template <simt::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  return simt::shuffle("__shfl_xor_sync", mask, value, simt::lane() ^ lane_mask, {file, line});
}

template <simt::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  return simt::shuffle("__shfl_sync", mask, value, source, {file, line});
}

inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  const simt::Site site = {file, line};
  return simt::wait_for_warp("__any_sync", mask, predicate != 0, simt::lane(), site) != 0;
}

// The barrier of `count` threads of the block, whichever come, with one of the numbers 0 to 15.
inline void __barrier_sync_count(unsigned barrier, unsigned count,
                                 const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::wait_for_count("__barrier_sync_count", barrier, count, {file, line});
}

// These order nothing but themselves; what is written before or read after needs __threadfence.
inline unsigned atomicAdd(unsigned* address, unsigned value, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  simt::note_atomic("atomicAdd", value != 0, {file, line});
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value,
                                    const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
  simt::note_atomic("atomicAdd", value != 0, {file, line});
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

inline unsigned atomicExch(unsigned* address, unsigned value, const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  const unsigned before = __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
  simt::note_atomic("atomicExch", before != value, {file, line});
  return before;
}

inline void __threadfence() {
  simt::fence();
}

// Lets others run: the only way in which a thread that waits for what another writes can.
inline void __nanosleep(unsigned, const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  simt::sleep("__nanosleep", {file, line});
}

template <class T>
T __ldcs(const T* address) {
  return *address;
}

template <class T>
T __ldcg(const T* address) {
  return *address;
}

template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}

template <class T>
void __stwb(T* address, std::type_identity_t<T> value) {
  *address = value;
}

// Runs the whole grid before it returns: as many blocks at a time as SIMT_BLOCKS in the environment
// says, by default one after another, but all those of a cluster. Into a graph it only goes, with
// its arguments as they are now.
template <class... Expected, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...),
                               Actual&&... arguments) {
  return [&](Expected... parameters) {
    const auto run = [=] { kernel(parameters...); };
    const auto run_thread = [](const void* f) { (*static_cast<const decltype(run)*>(f))(); };
    if (!simt::captures_into) return simt::launch(*config, run_thread, &run);
    const std::vector<cudaLaunchAttribute> attributes(config->attrs,
                                                      config->attrs + config->numAttrs);
    simt::captures_into->push_back([=, config = *config]() mutable {
      config.attrs = const_cast<cudaLaunchAttribute*>(attributes.data());
      return simt::launch(config, run_thread, &run);
    });
    return cudaSuccess;
  }(std::forward<Actual>(arguments)...);
}

inline cudaError_t cudaGetLastError() {
  return simt::take_last_error();
}

inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
// What SIMT_PROCESSORS and SIMT_CAPABILITY in the environment say.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return simt::get_attribute(value, attribute, device);
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

template <class T>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, T*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->ptxVersion = 10 * simt::capability();
  return cudaSuccess;
}

template <class T>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, T, const cudaLaunchConfig_t*) {
  *clusters = simt::capability() >= 9;
  return cudaSuccess;
}

template <class T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, T, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for the device";
  }
  return "unrecognized error code";
}
