// Kernels with a fault in what blocks, or threads that wait for a write, have to do with each
// other, and the same ones without it.
#include "faults.h"

#include <cooperative_groups.h>

unsigned flag, arrived;

namespace {

float message, parts[8];

// Both blocks have begun before any writes.
template <bool kFault>
__global__ void reads_a_neighbour_too_early(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  float* shared = shared_floats();
  cluster.sync();
  shared[threadIdx.x] = in[index()];
  if (!kFault) cluster.sync();
  out[index()] = *cluster.map_shared_rank(shared + threadIdx.x, cluster.block_rank() ^ 1);
  cluster.sync();
}

template <bool kFault>
__global__ void reads_a_neighbour_before_it_begins(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  float* shared = shared_floats();
  const unsigned next = (cluster.block_rank() + 1) % cluster.num_blocks();
  if (!kFault) cluster.sync();
  *cluster.map_shared_rank(shared + threadIdx.x, next) = in[index()];
  cluster.sync();
  out[index()] = shared[threadIdx.x];
}

template <bool kFault>
__global__ void ends_while_a_neighbour_reads(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  float* shared = shared_floats();
  shared[threadIdx.x] = in[index()];
  cluster.sync();
  const unsigned next = (cluster.block_rank() + 1) % cluster.num_blocks();
  out[index()] = *cluster.map_shared_rank(shared + threadIdx.x, next);
  if (!kFault) cluster.sync();
}

template <bool kFault>
__global__ void leaves_out_a_cluster_barrier(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  out[index()] = in[index()];
  cluster.sync();
  if (kFault && cluster.block_rank() == 1 && threadIdx.x >= 10) return;
  cluster.sync();  // leaves_out_a_cluster_barrier
}

template <bool kFault>
__global__ void waits_at_two_cluster_barriers(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  out[index()] = in[index()];
  if (kFault && cluster.block_rank() == 1) {
    cluster.sync();  // waits_at_two_cluster_barriers, the second
  } else {
    cluster.sync();  // waits_at_two_cluster_barriers, the first
  }
}

template <bool kFault>
__global__ void asks_for_a_block_that_is_not_there(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  const unsigned rank = kFault ? 2 : 1;
  cluster.map_shared_rank(shared_floats(), rank);  // asks_for_a_block_that_is_not_there
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void maps_what_is_not_shared(float* out, const float* in) {
  const auto cluster = cooperative_groups::this_cluster();
  float* const mapped = kFault ? out : shared_floats();
  cluster.map_shared_rank(mapped, 0);  // maps_what_is_not_shared
  out[index()] = in[index()];
}

// The first block tells all the others, and does not read it itself: ThreadSanitizer remembers but
// four accesses of a word, and forgets the write among many reads.
template <bool kWriterFences, bool kReaderFences>
__device__ void pass_a_message(float* out, const float* in) {
  if (threadIdx.x == 0 && blockIdx.x == 0) {
    message = in[0];
    if (kWriterFences) __threadfence();
    atomicExch(&flag, 1);
  } else if (threadIdx.x == 0) {
    while (atomicAdd(&flag, 0) == 0) __nanosleep(100);
    if (kReaderFences) __threadfence();
  }
  __syncthreads();
  out[index()] = blockIdx.x ? message : in[0];
}

template <bool kFault>
__global__ void writes_a_message_without_a_fence(float* out, const float* in) {
  pass_a_message<!kFault, true>(out, in);
}

template <bool kFault>
__global__ void reads_a_message_without_a_fence(float* out, const float* in) {
  pass_a_message<true, !kFault>(out, in);
}

// Every block hands in its part, and whoever comes last uses all of them.
template <bool kFault>
__global__ void hands_in_a_part_without_a_fence(float* out, const float* in) {
  bool last = false;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = in[index()];
    if (!kFault) __threadfence();
    last = atomicAdd(&arrived, 1) == gridDim.x - 1;
  }
  out[index()] = in[index()];
  if (!__syncthreads_or(last)) return;
  __threadfence();
  if (threadIdx.x < gridDim.x) out[index()] = parts[threadIdx.x];
}

template <bool kFault>
__global__ void writes_what_others_add_to(float* out, const float* in) {
  if (threadIdx.x == 0) {
    if (kFault) arrived = 1;
    else atomicAdd(&arrived, 1);
  }
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void waits_for_ever(float* out, const float* in) {
  if (threadIdx.x == 0 && !kFault) atomicExch(&flag, 1);
  if (threadIdx.x == 33) {
    while (atomicAdd(&flag, 0) == 0) {
      __nanosleep(20);  // waits_for_ever
    }
  }
  __syncthreads();  // waits_for_ever, the others
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void waits_in_a_vote_for_ever(float* out, const float* in) {
  if (threadIdx.x == 0 && !kFault) atomicExch(&flag, 1);
  if (threadIdx.x >= 32) {
    while (!__any_sync(kAll, threadIdx.x == 40 && atomicAdd(&flag, 0))) {
      __nanosleep(20);  // waits_in_a_vote_for_ever
    }
  }
  out[index()] = in[index()];
}

template <bool kFault>
__global__ void waits_without_giving_way(float* out, const float* in) {
  if (threadIdx.x == blockDim.x - 1) atomicExch(&flag, 1);
  if (threadIdx.x == 0) {
    while (atomicAdd(&flag, 0) == 0) {  // waits_without_giving_way
      if (!kFault) __nanosleep(20);
    }
  }
  out[index()] = in[index()];
}

const Case kCases[] = {
    {CASE(reads_a_neighbour_too_early), 0, kThreads, 2},
    {CASE(reads_a_neighbour_before_it_begins), 0, kThreads, 3},
    {CASE(ends_while_a_neighbour_reads), 0, kThreads, 4},
    {CASE(leaves_out_a_cluster_barrier), 0, kThreads, 2},
    {CASE(waits_at_two_cluster_barriers), 0, kThreads, 2},
    {CASE(asks_for_a_block_that_is_not_there), 0, kThreads, 2},
    {CASE(maps_what_is_not_shared)},
    {CASE(writes_a_message_without_a_fence)},
    {CASE(reads_a_message_without_a_fence)},
    {CASE(hands_in_a_part_without_a_fence)},
    {CASE(writes_what_others_add_to)},
    {CASE(waits_for_ever)},
    {CASE(waits_in_a_vote_for_ever)},
    {CASE(waits_without_giving_way)},
};

}  // namespace

const std::span<const Case> kCasesOfManyBlocks = kCases;
