// What the threads of a kernel do together, and the launch of one.
#include "grid.h"

namespace simt {
namespace {

constexpr size_t kMaxSharedBytes = 48 << 10;  // more must be asked for, by what is not simulated
constexpr unsigned kMostIdleAtomics = 1 << 20;
cudaError_t last_error = cudaSuccess;
char fences;  // what every __threadfence releases and acquires

Thread& arrive_at(const Wait& wait) {
  if (!running) {
    fail("simt: %s at %s:%d is outside a kernel\n", wait.operation, wait.site.file, wait.site.line);
  }
  running->wait = wait;
  return *running;
}

// Ends the wait of those that `for_each` visits, each of which has then seen what any did before.
template <class ForEach>
void meet(const ForEach& for_each) {
  synchronize(for_each);
  for_each([](Thread& thread) { set_state(thread, State::kReady); });
}

// `what`, if those that `for_each` visits do not all wait for the same.
template <class ForEach>
void check_same(const Wait& wait, const char* what, const Block& block, const ForEach& for_each) {
  for_each([&](const Thread& thread) {
    if (!same(thread.wait, wait)) fail_everywhere(what + name_of(block.index));
  });
}

cudaError_t check_config(const cudaLaunchConfig_t& config, dim3& cluster) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const bool any = g.x && g.y && g.z && b.x && b.y && b.z;
  if (!any || g.x >= 1u << 31 || g.y >= 1 << 16 || g.z >= 1 << 16 || b.x > kMaxThreads ||
      b.y > kMaxThreads || b.z > 64 || uint64_t{b.x} * b.y * b.z > kMaxThreads) {
    return cudaErrorInvalidConfiguration;
  }
  if (config.dynamicSmemBytes > kMaxSharedBytes) return cudaErrorInvalidValue;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id != cudaLaunchAttributeClusterDimension) return cudaErrorInvalidValue;
    if (capability() < 9) return cudaErrorInvalidConfiguration;  // no GPU before had clusters
    const auto [x, y, z] = attribute.val.clusterDim;
    if (!x || !y || !z || g.x % x || g.y % y || g.z % z || x > kMaxCluster || y > kMaxCluster ||
        z > kMaxCluster || x * y * z > kMaxCluster) {
      return cudaErrorInvalidConfiguration;
    }
    cluster = {x, y, z};
  }
  return cudaSuccess;
}

}  // namespace

int capability() {
  return static_cast<int>(number_setting("SIMT_CAPABILITY", 9, 99));
}

unsigned lane() {
  return running ? running->number % kWarp : 0;
}

unsigned cluster_rank() {
  return running ? running->block->rank : 0;
}

unsigned cluster_size() {
  return grid.cluster_size;
}

bool wait_for_block(const char* operation, bool vote, Site site) {
  Thread& self = arrive_at({.operation = operation, .site = site, .value = vote});
  Block& block = *self.block;
  set_state(self, State::kWaiting);
  ++block.at_barrier;
  if (block.at_named[0]) fail_everywhere("barrier 0 used in two ways in " + name_of(block.index));
  if (block.at_barrier == grid.thread_count) {
    const auto all = [&](const auto& visit) { for_each_thread(block, visit); };
    check_same(self.wait, "barrier not reached by all threads in ", block, all);
    bool any = false;
    all([&](const Thread& thread) { any |= thread.wait.value != 0; });
    all([&](Thread& thread) { thread.received = any; });
    meet(all);
    block.at_barrier = 0;
    restart_turns(block);
  }
  give_way(self);
  return self.received != 0;
}

void wait_for_count(const char* operation, unsigned barrier, unsigned count, Site site) {
  Wait wait = {.operation = operation, .site = site};
  Thread& self = arrive_at(wait);
  Block& block = *self.block;
  const unsigned size = grid.thread_count;
  if (barrier >= kBarriers) fail_at(wait, "has no barrier " + std::to_string(barrier));
  if (!count || count % kWarp || count > size) {
    fail_at(wait, "counts " + std::to_string(count) + ", not a multiple of " +
                      std::to_string(kWarp) + " up to the block's " + std::to_string(size));
  }
  wait.barrier = barrier;
  wait.count = count;
  self.wait = wait;
  set_state(self, State::kWaiting);
  ++block.at_named[barrier];
  const auto arrived = [&](const auto& visit) {
    for_each_thread(block, [&](Thread& thread) {
      const bool here = thread.state == State::kWaiting && thread.wait.barrier == barrier;
      if (here && thread.wait.count) visit(thread);
    });
  };
  if (barrier == 0 && block.at_barrier) {
    fail_everywhere("barrier 0 used in two ways in " + name_of(block.index));
  }
  check_same(wait, "threads with another line or count at the same barrier in ", block, arrived);
  if (block.at_named[barrier] == count) {
    Thread* met[kMaxThreads];
    unsigned met_count = 0;
    arrived([&](Thread& thread) { met[met_count++] = &thread; });
    meet([&](const auto& visit) {
      for (unsigned i = 0; i < met_count; ++i) visit(*met[i]);
    });
    block.at_named[barrier] = 0;
    restart_turns(block);
  }
  give_way(self);
}

void wait_for_cluster(const char* operation, Site site) {
  Thread& self = arrive_at({.operation = operation, .site = site});
  Cluster& cluster = *self.block->cluster;
  set_state(self, State::kWaiting);
  if (++cluster.at_barrier == cluster.size * grid.thread_count) {
    const auto all = [&](const auto& visit) {
      for (unsigned b = 0; b < cluster.size; ++b) for_each_thread(*cluster.blocks[b], visit);
    };
    check_same(self.wait, "cluster barrier not reached by all threads of the cluster of ",
               *self.block, all);
    meet(all);
    cluster.at_barrier = 0;
    restart_turns();
  }
  give_way(self);
}

void* in_shared_memory_of(const char* operation, const void* address, unsigned rank, Site site) {
  const Thread& self = arrive_at({.operation = operation, .site = site});
  const Cluster& cluster = *self.block->cluster;
  if (rank >= cluster.size) {
    fail_at(self.wait, "asks for block " + std::to_string(rank) + " of a cluster of " +
                           std::to_string(cluster.size));
  }
  const auto own = reinterpret_cast<uintptr_t>(self.block->shared_memory);
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - own;
  if (!own || offset > grid.shared_bytes) {
    fail_at(self.wait, "gives an address that is not in its own shared memory");
  }
  return cluster.blocks[rank]->shared_memory + offset;
}

uint64_t wait_for_warp(const char* operation, unsigned mask, uint64_t value, unsigned source,
                       Site site) {
  Thread& self = arrive_at({operation, site, mask, value, source});
  Block& block = *self.block;
  const unsigned lane = self.number % kWarp, first = self.number - lane;
  Thread* const lanes = block.threads + first;
  const auto in_mask = [mask](unsigned lane) { return lane < kWarp && mask >> lane & 1; };
  const auto all = [&](const auto& visit) {
    for (unsigned i = 0; i < kWarp; ++i) {
      if (in_mask(i)) visit(lanes[i]);
    }
  };
  if (!in_mask(lane)) fail_at(self.wait, "is not in its own mask " + hexadecimal(mask));
  if (!in_mask(source)) {
    fail_at(self.wait, "reads from lane " + std::to_string(static_cast<int>(source)) +
                           ", which is not in its mask " + hexadecimal(mask));
  }
  if (const unsigned there = grid.thread_count - first; there < kWarp && mask >> there) {
    fail_at(self.wait, "has lanes in its mask " + hexadecimal(mask) + " that the block has not");
  }

  set_state(self, State::kWaiting);
  unsigned& waiting = block.warps[first / kWarp].waiting;
  waiting |= 1u << lane;
  bool complete = (waiting & mask) == mask;
  for (unsigned i = 0; complete && i < kWarp; ++i) {
    complete = !in_mask(i) || same(lanes[i].wait, self.wait);
  }
  if (complete) {
    // A shuffle exchanges registers and orders no memory, says CUDA's guide; __syncwarp does.
    if (same(operation, "__syncwarp")) synchronize(all);
    waiting &= ~mask;
    uint64_t any = 0;
    all([&](const Thread& thread) { any |= thread.wait.value; });
    const bool votes = same(operation, "__any_sync");
    all([&](Thread& thread) {
      thread.received = votes ? any : lanes[thread.wait.source].wait.value;
      set_state(thread, State::kReady);
    });
  }
  give_way(self);
  return self.received;
}

void sleep(const char* operation, Site site) {
  Thread& self = arrive_at({.operation = operation, .site = site});
  set_state(self, State::kAsleep);
  give_way(self);
}

void fence() {
  release(&fences);
  acquire(&fences);
}

void note_atomic(const char* operation, bool changed, Site site) {
  if (!running) return;
  if (changed) {
    idle_rounds = idle_atomics = 0;
    // What blocks share work by: a block that ran on would do it all.
    if (block_count > 1) {
      turn = (turn + 1) % block_count;
      give_way(*running);
    }
  } else if (++idle_atomics > kMostIdleAtomics) {
    fail_at({.operation = operation, .site = site}, "waits for others and lets none of them run");
  }
}

cudaError_t get_attribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return last_error = cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = static_cast<int>(number_setting("SIMT_PROCESSORS", 2, 1000));
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability();
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      return cudaSuccess;
  }
  return last_error = cudaErrorInvalidValue;
}

cudaError_t launch(const cudaLaunchConfig_t& config, void (*run_thread)(const void*),
                   const void* kernel) {
  dim3 cluster;
  if (const cudaError_t error = check_config(config, cluster)) return last_error = error;
  static const char* const seed = setting("SIMT_SEED", "0");
  random_state = std::strtoull(seed, nullptr, 10);
  const dim3 b = config.blockDim;
  grid.run_thread = run_thread;
  grid.kernel = kernel;
  grid.thread_count = b.x * b.y * b.z;
  grid.warp_count = (grid.thread_count + kWarp - 1) / kWarp;
  grid.cluster = cluster;
  grid.cluster_size = cluster.x * cluster.y * cluster.z;
  grid.shared_bytes = config.dynamicSmemBytes;
  grid.end = std::malloc(1);
  here.grid_size = config.gridDim;
  here.block_size = b;
  adopt(host);
  run_grid();
  acquire(grid.end);
  std::free(grid.end);
  return cudaSuccess;
}

cudaError_t take_last_error() {
  return std::exchange(last_error, cudaSuccess);
}

}  // namespace simt
