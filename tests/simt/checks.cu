// What the shim says and does that is no fault.
#include "faults.h"

#include <vector>

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

#define CHECK(condition)                           \
  if (!(condition)) {                              \
    printf("line %d: %s\n", __LINE__, #condition); \
    return 1;                                      \
  }

template <class... Expected, class... Arguments>
cudaError_t launch_clusters(dim3 cluster, dim3 grid, dim3 block, size_t shared,
                            void (*kernel)(Expected...), Arguments... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster.x, cluster.y, cluster.z};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <class... Expected, class... Arguments>
cudaError_t launch(dim3 grid, dim3 block, size_t shared, void (*kernel)(Expected...),
                   Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

__global__ void say_number() {
  printf("%u\n", threadIdx.x);
}

int show_order() {
  return launch(1, kThreads, 0, say_number);
}

__global__ void say_block() {
  if (threadIdx.x == 0) printf("%u\n", blockIdx.x);
}

int show_order_of_blocks() {
  return launch(6, kThreads, 0, say_block);
}

int show_order_of_clusters() {
  return launch_clusters(2, 6, kThreads, 0, say_block);
}

// Every block waits for all: they must run at the same time.
__global__ void meet_with_all_blocks() {
  __syncthreads();
  if (threadIdx.x) return;
  atomicAdd(&arrived, 1);
  while (atomicAdd(&arrived, 0) < gridDim.x) __nanosleep(50);
}

int check_grid_barrier() {
  arrived = 0;
  CHECK(launch(4, kThreads, 0, meet_with_all_blocks) == cudaSuccess);
  return 0;
}

// Many atomics, of which none may be lost.
__global__ void count(unsigned long long* sum) {
  for (unsigned i = 0; i < 3; ++i) {
    atomicAdd(sum, index() * 0x1'0000'0000ull);
    __nanosleep(1);
  }
}

__global__ void take_turns(unsigned* turns) {
  for (unsigned turn = 0; turn < 20'000; ++turn) {
    if (turn % 2 != threadIdx.x / 32) continue;
    while (atomicAdd(turns, 0) != turn) __nanosleep(10);
    __syncwarp();
    if (threadIdx.x % 32 == 0) atomicAdd(turns, 1);
    __syncwarp();
  }
}

int check_atomics() {
  unsigned long long sum = 0;
  CHECK(launch(3, 50, 0, count, &sum) == cudaSuccess);
  CHECK(sum == 3 * (150 * 149 / 2) * 0x1'0000'0000ull);
  unsigned number = 0xfffffffe;
  CHECK(atomicAdd(&number, 3) == 0xfffffffe && number == 1);
  CHECK(atomicExch(&number, 7) == 1 && number == 7);
  // More rounds of sleeping threads than an endless wait is allowed.
  unsigned turns = 0;
  CHECK(launch(1, 64, 0, take_turns, &turns) == cudaSuccess);
  CHECK(turns == 20'000);
  return 0;
}

__global__ void nothing() {}

int check_launches() {
  CHECK(launch(3, {4, 3, 2}, 48 << 10, nothing) == cudaSuccess);
  CHECK(launch(1, 1024, 0, nothing) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(launch(0, 1, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, 0, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, {1024, 2}, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch(1u << 31, 1, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch(1, 1, (48 << 10) + 1, nothing) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(launch_clusters(8, 16, 4, 0, nothing) == cudaSuccess);
  CHECK(launch_clusters({2, 2, 2}, {2, 4, 6}, 4, 0, nothing) == cudaSuccess);
  CHECK(launch_clusters(16, 16, 4, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch_clusters({4, 4}, {4, 4}, 4, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch_clusters({2, 0}, {4, 4}, 4, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch_clusters(2, 3, 4, 0, nothing) == cudaErrorInvalidConfiguration);
  CHECK(launch_clusters({1, 2}, {2, 3}, 4, 0, nothing) == cudaErrorInvalidConfiguration);
  cudaLaunchAttribute cooperative = {};
  cooperative.id = cudaLaunchAttributeCooperative;
  cudaLaunchConfig_t config = {};
  config.attrs = &cooperative;
  config.numAttrs = 1;
  CHECK(cudaLaunchKernelEx(&config, nothing) == cudaErrorInvalidValue);
  return 0;
}

// Every block learns from the shared memory of every other which one that is.
__global__ void look_around(unsigned* ranks, unsigned* problems, dim3 size) {
  const auto cluster = cooperative_groups::this_cluster();
  auto* const mine = static_cast<uint3*>(simt::shared_memory());
  if (threadIdx.x == 0) *mine = blockIdx;
  cluster.sync();
  for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
    const uint3 other = *cluster.map_shared_rank(mine, rank);
    const uint3 expected = {blockIdx.x / size.x * size.x + rank % size.x,
                            blockIdx.y / size.y * size.y + rank / size.x % size.y,
                            blockIdx.z / size.z * size.z + rank / size.x / size.y};
    const bool right = other.x == expected.x && other.y == expected.y && other.z == expected.z;
    if (!right || cluster.num_blocks() != size.x * size.y * size.z) atomicAdd(problems, 1);
  }
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  if (threadIdx.x == 0) ranks[block] = cluster.block_rank();
  cluster.sync();
}

int check_clusters() {
  unsigned problems = 0;
  std::vector<unsigned> ranks(64, 99);
  CHECK(launch_clusters({2, 1, 2}, {4, 2, 4}, 40, sizeof(uint3), look_around, ranks.data(),
                        &problems, dim3(2, 1, 2)) == cudaSuccess);
  CHECK(problems == 0);
  for (unsigned i = 0; i < 32; ++i) CHECK(ranks[i] == i % 2 + 2 * (i / 8 % 2));
  CHECK(launch_clusters(8, 64, 40, sizeof(uint3), look_around, ranks.data(), &problems, dim3(8)) ==
        cudaSuccess);
  for (unsigned i = 0; i < 64; ++i) CHECK(ranks[i] == i % 8);
  CHECK(launch(4, 40, sizeof(uint3), look_around, ranks.data(), &problems, dim3(1)) == cudaSuccess);
  CHECK(ranks[3] == 0 && problems == 0);
  return 0;
}

int check_device() {
  int value = 0;
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, nothing, 64, 0) == cudaSuccess);
  CHECK(value == 2);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 0) == cudaSuccess);
  CHECK(value == 50 << 20);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 1) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  static_assert(sizeof(uint4) == 16 && alignof(uint4) == 16 && alignof(uint2) == 8);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  printf("%d processors\n", value);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  printf("capability %d\n", value);
  const bool clusters = launch_clusters(2, 2, 32, 0, nothing) == cudaSuccess;
  CHECK(clusters == (value >= 9));
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

const Check kEach[] = {
    {"order", show_order},
    {"order_of_blocks", show_order_of_blocks},
    {"order_of_clusters", show_order_of_clusters},
    {"grid_barrier", check_grid_barrier},
    {"atomics", check_atomics},
    {"launches", check_launches},
    {"clusters", check_clusters},
    {"device", check_device},
    {"arithmetic", check_arithmetic},
};

}  // namespace

const std::span<const Check> kChecks = kEach;
