// Kernels with one fault each, and the same ones without it, to test the shim itself. `faults NAME`
// runs the faulty one of that name, `faults clean` all the others. A kernel that goes well leaves 1
// in every element of `out`; `in` is as long and full of ones.
#include <cuda_runtime.h>

#include <string_view>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

constexpr unsigned kThreads = 64;
constexpr unsigned kAll = 0xffffffff;

__device__ float* shared_floats() {
  return static_cast<float*>(simt::shared_memory());
}

__device__ unsigned index() {
  return blockIdx.x * blockDim.x + threadIdx.x;
}

template <bool kFault>
__global__ void reads_past_the_end(float* out, const float* in) {
  out[index()] = in[index() + kFault];
}

template <bool kFault>
__global__ void writes_past_the_end(float* out, const float* in) {
  out[index() + kFault] = 1;
  __syncthreads();
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void reads_before_the_write(float* out, const float* in) {
  float* shared = shared_floats();
  shared[threadIdx.x] = in[index()];
  if (!kFault) __syncthreads();
  out[index()] = shared[(threadIdx.x + kThreads / 2) % kThreads];
}

// What is written twice is the same, so that no order of the threads gives a wrong result.
template <bool kFault>
__global__ void writes_before_the_read(float* out, const float* in) {
  float* shared = shared_floats();
  if (threadIdx.x == 0) shared[0] = in[0];
  __syncthreads();
  const float first = shared[0];
  if (!kFault) __syncthreads();
  if (threadIdx.x == 0) shared[0] = in[0];
  __syncthreads();
  out[index()] = first * shared[0];
}

template <bool kFault>
__global__ void shuffles_for_order(float* out, const float* in) {
  float* shared = shared_floats();
  shared[threadIdx.x] = in[index()];
  const float one = __shfl_sync(kAll, in[index()], 0);
  if (!kFault) __syncwarp();
  out[index()] = one * shared[threadIdx.x ^ 1];
}

template <bool kFault>
__global__ void leaves_out_a_barrier(float* out, const float* in) {
  if (!kFault || threadIdx.x < 32) __syncthreads();  // leaves_out_a_barrier
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void returns_before_a_barrier(float* out, const float* in) {
  out[index()] = in[index()];
  if (kFault && threadIdx.x == 5) return;
  __syncthreads();  // returns_before_a_barrier
}

template <bool kFault>
__global__ void waits_at_two_barriers(float* out, const float* in) {
  if (kFault && threadIdx.x >= 40) {
    __syncthreads();  // waits_at_two_barriers, the second
  } else {
    __syncthreads();  // waits_at_two_barriers, the first
  }
  out[index()] = __syncthreads_or(threadIdx.x == 7) ? in[index()] : 0;
}

template <bool kFault>
__global__ void is_not_in_its_mask(float* out, const float* in) {
  const unsigned mask = kFault ? kAll >> 1 : kAll;
  out[index()] = __shfl_sync(mask, in[index()], 0);  // is_not_in_its_mask
}

template <bool kFault>
__global__ void reads_a_lane_not_in_its_mask(float* out, const float* in) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0x0000ffff : 0xffff0000;
  out[index()] =
      __shfl_xor_sync(mask, in[index()], kFault ? 16 : 8);  // reads_a_lane_not_in_its_mask
}

template <bool kFault>
__global__ void has_lanes_that_are_not_there(float* out, const float* in) {
  const bool partial = threadIdx.x / 32 == blockDim.x / 32;
  const unsigned there = partial ? (1u << blockDim.x % 32) - 1 : kAll;
  __syncwarp(kFault ? kAll : there);  // has_lanes_that_are_not_there
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void waits_for_a_lane_that_returned(float* out, const float* in) {
  out[index()] = in[index()];
  if (threadIdx.x % 32 == 31) return;
  const unsigned mask = kFault ? kAll : kAll >> 1;
  out[index()] = __shfl_sync(mask, in[index()], 0);  // waits_for_a_lane_that_returned
}

template <bool kFault>
__global__ void waits_for_a_lane_at_a_barrier(float* out, const float* in) {
  if (kFault && threadIdx.x == 3) __syncthreads();  // waits_for_a_lane_at_a_barrier
  __syncwarp();                                     // waits_for_a_lane_at_a_barrier, the others
  __syncthreads();
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void lacks_shared_memory(float* out, const float* in) {
  shared_floats()[threadIdx.x] = in[index()];
  out[index()] = shared_floats()[threadIdx.x];
}

template <bool kFault>
__global__ void reads_another_blocks_shared_memory(float* out, const float* in) {
  if (!kFault || blockIdx.x == 0) shared_floats()[threadIdx.x] = in[index()];
  out[index()] = shared_floats()[threadIdx.x];
}

struct __align__(16) Four {
  float values[4];
};

template <bool kFault>
__global__ void is_misaligned(float* out, const float* in) {
  if (threadIdx.x % 4) return;
  const bool last = threadIdx.x + 4 == kThreads;
  const auto* address = reinterpret_cast<const Four*>(in + index() + (kFault && !last));
  __stcs(reinterpret_cast<Four*>(out + index()), __ldcs(address));
}

template <bool kFault>
__global__ void writes_another_blocks_words(float* out, const float* in) {
  out[kFault ? threadIdx.x : index()] = in[index()];
}

struct Case {
  const char* name;
  void (*faulty)(float*, const float*);
  void (*clean)(float*, const float*);
  unsigned missing_bytes = 0;  // of shared memory, in the faulty launch
  unsigned threads = kThreads;
};

#define CASE(name) #name, name<true>, name<false>
const Case kCases[] = {
    {CASE(reads_past_the_end)},
    {CASE(writes_past_the_end)},
    {CASE(reads_before_the_write)},
    {CASE(writes_before_the_read)},
    {CASE(shuffles_for_order)},
    {CASE(leaves_out_a_barrier)},
    {CASE(returns_before_a_barrier)},
    {CASE(waits_at_two_barriers)},
    {CASE(is_not_in_its_mask)},
    {CASE(reads_a_lane_not_in_its_mask)},
    {CASE(has_lanes_that_are_not_there), 0, 70},
    {CASE(waits_for_a_lane_that_returned)},
    {CASE(waits_for_a_lane_at_a_barrier)},
    {CASE(lacks_shared_memory), 2},
    {CASE(reads_another_blocks_shared_memory)},
    {CASE(is_misaligned)},
    {CASE(writes_another_blocks_words)},
};

// Five blocks, so that some run on the same fibers; twice, because the host is part of the game.
const char* result(const Case& one, bool faulty) {
  constexpr unsigned kBlocks = 5;
  const std::vector<float> in(kBlocks * one.threads, 1.f);
  for (int launch = 0; launch < 2; ++launch) {
    std::vector<float> out(in.size());
    cudaLaunchConfig_t config = {};
    config.gridDim = kBlocks;
    config.blockDim = one.threads;
    config.dynamicSmemBytes = one.threads * sizeof(float) - faulty * one.missing_bytes;
    const cudaError_t error =
        cudaLaunchKernelEx(&config, faulty ? one.faulty : one.clean, out.data(), in.data());
    if (error != cudaSuccess) return cudaGetErrorString(error);
    if (std::any_of(out.begin(), out.end(), [](float x) { return x != x; })) return "NaN";
    if (out != in) return "wrong";
  }
  return "right";
}

__global__ void say_number() {
  printf("%u\n", threadIdx.x);
}

void show_order() {
  cudaLaunchConfig_t config = {};
  config.gridDim = 1;
  config.blockDim = kThreads;
  cudaLaunchKernelEx(&config, say_number);
}

#define CHECK(condition)                           \
  if (!(condition)) {                              \
    printf("line %d: %s\n", __LINE__, #condition); \
    return 1;                                      \
  }

__global__ void nothing() {}

int check_launches() {
  const auto launch = [](dim3 grid, dim3 block, size_t shared) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    return cudaLaunchKernelEx(&config, nothing);
  };
  CHECK(launch(3, {4, 3, 2}, 227 << 10) == cudaSuccess);
  CHECK(launch(1, 1024, 0) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(launch(0, 1, 0) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, 0, 0) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, {1024, 2}, 0) == cudaErrorInvalidConfiguration);
  CHECK(launch(1u << 31, 1, 0) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, 1, (227 << 10) + 1) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  return 0;
}

int check_arithmetic() {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float b = __bfloat162float({half}), h = __half2float({half});
    CHECK(b != b || __float2bfloat16_rn(b).bits == half);
    CHECK(h != h || __float2half_rn(h).bits == half);
    CHECK((b != b) == ((half & 0x7fff) > 0x7f80));
    CHECK((h != h) == ((half & 0x7fff) > 0x7c00));
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK((__float2bfloat16_rn(nan).bits & 0x7fff) > 0x7f80);
  CHECK((__float2half_rn(nan).bits & 0x7fff) > 0x7c00);
  CHECK(__float2bfloat16_rn(0x1.01p0f).bits == 0x3f80);  // ties, to even
  CHECK(__float2bfloat16_rn(0x1.03p0f).bits == 0x3f82);
  CHECK(__float2bfloat16_rn(0x1.ffp127f).bits == 0x7f80);
  CHECK(__float2half_rn(0x1.002p0f).bits == 0x3c00);
  CHECK(__float2half_rn(0x1.006p0f).bits == 0x3c02);
  CHECK(__float2half_rn(65519.f).bits == 0x7bff && __float2half_rn(-65520.f).bits == 0xfc00);
  CHECK(__float2half_rn(0x1p-25f).bits == 0 && __float2half_rn(0x1.8p-25f).bits == 1);
  CHECK(sinpi(1e9) == 0 && sinpi(2.5) == 1 && sinpi(-0.5) == -1 && cospi(1.5) == 0);
  CHECK(cospi(3.) == -1 && std::fabs(sinpi(0.25) - std::sqrt(0.5)) < 1e-15);
  CHECK(sinpif(1e6f + 0.5f) == 1 && cospif(0.f) == 1 && rsqrtf(4.f) == 0.5f);
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  const std::string_view name = arguments[1];
  if (name == "launches") return check_launches();
  if (name == "arithmetic") return check_arithmetic();
  if (name == "order") show_order();
  for (const Case& one : kCases) {
    if (name == "clean") printf("%s: %s\n", one.name, result(one, false));
    if (name == one.name) printf("%s\n", result(one, true));
  }
  return 0;
}
