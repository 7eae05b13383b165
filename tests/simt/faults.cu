// Kernels with one fault each, and the same ones without it, to test the shim itself. `faults NAME`
// runs the faulty one of that name, `faults clean` all the others. Those here need no other block.
#include "faults.h"

#include <string_view>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

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
__global__ void votes_for_order(float* out, const float* in) {
  float* shared = shared_floats();
  shared[threadIdx.x] = in[index()];
  const bool second_warp = __any_sync(kAll, threadIdx.x == 37);
  if (!kFault) __syncwarp();
  out[index()] = second_warp == (threadIdx.x >= 32) ? shared[threadIdx.x ^ 1] : 0;
}

// Each of two barriers is that of two neighbouring warps, which exchange what they have.
template <bool kFault>
__global__ void waits_with_other_threads(float* out, const float* in) {
  float* shared = shared_floats();
  const unsigned warp = threadIdx.x / 32;
  shared[threadIdx.x] = in[index()];
  __barrier_sync_count(1 + (kFault ? warp % 2 : warp / 2), 64);
  out[index()] = shared[threadIdx.x ^ 32];
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
__global__ void leaves_out_a_named_barrier(float* out, const float* in) {
  for (int i = 0; i < 3; ++i) __barrier_sync_count(15, 64);
  if (!kFault || threadIdx.x < 32) __barrier_sync_count(1, 64);  // leaves_out_a_named_barrier
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void counts_differently(float* out, const float* in) {
  const unsigned other = threadIdx.x % 2 ? 32 : 64;
  __barrier_sync_count(2, kFault ? other : 64);  // counts_differently
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void waits_at_one_barrier_in_two_lines(float* out, const float* in) {
  if (threadIdx.x % 2) {
    __barrier_sync_count(3, 32);  // waits_at_one_barrier_in_two_lines, the first
  } else {
    __barrier_sync_count(kFault ? 3 : 4, 32);  // waits_at_one_barrier_in_two_lines, the second
  }
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void counts_half_a_warp(float* out, const float* in) {
  if (threadIdx.x < 64) __barrier_sync_count(1, kFault ? 48 : 64);  // counts_half_a_warp
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void counts_more_than_the_block(float* out, const float* in) {
  __barrier_sync_count(1, kFault ? 96 : 64);  // counts_more_than_the_block
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void has_too_many_barriers(float* out, const float* in) {
  __barrier_sync_count(kFault ? 16 : 15, 64);  // has_too_many_barriers
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void uses_barrier_0_for_two_things(float* out, const float* in) {
  if (threadIdx.x % 2) __barrier_sync_count(kFault ? 0 : 1, 32);  // uses_barrier_0, the threads
  if (!kFault || threadIdx.x % 2 == 0) __syncthreads();           // uses_barrier_0, the block
  __barrier_sync_count(0, 64);
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void is_not_in_its_mask(float* out, const float* in) {
  const unsigned mask = kFault ? kAll >> 1 : kAll;
  out[index()] = __shfl_sync(mask, in[index()], 0);  // is_not_in_its_mask
}

template <bool kFault>
__global__ void votes_outside_its_mask(float* out, const float* in) {
  const unsigned half = threadIdx.x % 32 < 16 ? 0x0000ffff : 0xffff0000;
  const bool any = __any_sync(kFault ? 0xffff : half, threadIdx.x == 1);  // votes_outside_its_mask
  out[index()] = any == (threadIdx.x < 16) ? in[index()] : 0;
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

template <bool kFault>
__global__ void is_misaligned(float* out, const float* in) {
  if (threadIdx.x % 4) return;
  const bool last = threadIdx.x + 4 == kThreads;
  const auto* address = reinterpret_cast<const uint4*>(in + index() + (kFault && !last));
  const uint4 value = threadIdx.x % 8 ? __ldcg(address) : __ldcs(address);
  __stcs(reinterpret_cast<uint4*>(out + index()), value);
}

template <bool kFault>
__global__ void writes_another_blocks_words(float* out, const float* in) {
  out[kFault ? threadIdx.x : index()] = in[index()];
}

const Case kCases[] = {
    {CASE(reads_past_the_end)},
    {CASE(writes_past_the_end)},
    {CASE(reads_before_the_write)},
    {CASE(writes_before_the_read)},
    {CASE(shuffles_for_order)},
    {CASE(votes_for_order)},
    {CASE(waits_with_other_threads), 0, 128},
    {CASE(leaves_out_a_barrier)},
    {CASE(returns_before_a_barrier)},
    {CASE(waits_at_two_barriers)},
    {CASE(leaves_out_a_named_barrier)},
    {CASE(counts_differently)},
    {CASE(waits_at_one_barrier_in_two_lines)},
    {CASE(counts_half_a_warp), 0, 96},
    {CASE(counts_more_than_the_block)},
    {CASE(has_too_many_barriers)},
    {CASE(uses_barrier_0_for_two_things)},
    {CASE(is_not_in_its_mask)},
    {CASE(votes_outside_its_mask)},
    {CASE(reads_a_lane_not_in_its_mask)},
    {CASE(has_lanes_that_are_not_there), 0, 70},
    {CASE(waits_for_a_lane_that_returned)},
    {CASE(waits_for_a_lane_at_a_barrier)},
    {CASE(lacks_shared_memory), 2},
    {CASE(reads_another_blocks_shared_memory)},
    {CASE(is_misaligned)},
    {CASE(writes_another_blocks_words)},
};

// Five blocks or clusters, so that some run on the same fibers; twice, because the host is part of
// the game.
const char* result(const Case& one, bool faulty) {
  const unsigned blocks = 5 * one.cluster;
  const std::vector<float> in(blocks * one.threads, 1.f);
  for (int launch = 0; launch < 2; ++launch) {
    std::vector<float> out(in.size());
    flag = arrived = 0;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {one.cluster, 1, 1};
    cudaLaunchConfig_t config = {};
    config.attrs = &cluster;
    config.numAttrs = one.cluster > 1;
    config.gridDim = blocks;
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

}  // namespace

int main(int, char** arguments) {
  const std::string_view name = arguments[1];
  for (const Check& check : kChecks) {
    if (name == check.name) return check.run();
  }
  const auto run = [&](const Case& one) {
    if (name == "clean") printf("%s: %s\n", one.name, result(one, false));
    if (name == one.name) printf("%s\n", result(one, true));
  };
  for (const Case& one : kCases) run(one);
  for (const Case& one : kCasesOfManyBlocks) run(one);
  return 0;
}
