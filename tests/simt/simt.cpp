// Runs the threads of a block in turns, each until it waits for others. A warp runs on for as long
// as any of its lanes can, so that warps get as far apart as the barriers let them.
#include "block.h"

namespace simt {
namespace {

constexpr size_t kMaxSharedBytes = 227 << 10;
cudaError_t last_error = cudaSuccess;

const char* setting(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

uint64_t random_state;

uint64_t random_number() {  // splitmix64
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void permute(unsigned* items, unsigned count) {
  static const char* const kind = setting("SIMT_ORDER", "forward");
  const bool reverse = !std::strcmp(kind, "reverse"), seeded = !std::strcmp(kind, "seeded");
  if (!reverse && !seeded && std::strcmp(kind, "forward")) {
    fail("simt: SIMT_ORDER is %s, not forward, reverse or seeded\n", kind);
  }
  for (unsigned i = 0; i < count; ++i) items[i] = reverse ? count - 1 - i : i;
  for (unsigned i = count; seeded && i > 1; --i) {
    std::swap(items[i - 1], items[random_number() % i]);
  }
}

Thread& next_thread() {
  for (;;) {
    if (order.lane == kWarp) {
      order.lane = 0;
      if (!warps[order.warps[order.warp]].ready) order.warp = (order.warp + 1) % warp_count;
    }
    const unsigned number = order.warps[order.warp] * kWarp + order.lanes[order.lane++];
    if (number < thread_count && threads[number].state == State::kReady) return threads[number];
  }
}

// Lets another thread run, or the host where all have returned.
void give_way(Fiber& self, bool for_good = false) {
  if (!ready && returned < thread_count) fail_stuck();
  if (ready) {
    running = &next_thread();
    here.thread = running->index;
  } else {
    running = nullptr;
  }
  Fiber& next = running ? *running : host;
  if (&next != &self) switch_fiber(self, next, for_good);
}

void set_state(Thread& thread, State state) {
  const int change = (state == State::kReady) - (thread.state == State::kReady);
  thread.state = state;
  ready += change;
  warps[thread.number / kWarp].ready += change;
}

// Of the threads [first, first + 32) in `mask`, or of all the block where `mask` is 0, each has
// seen what any did before.
void synchronize([[maybe_unused]] unsigned first = 0, [[maybe_unused]] unsigned mask = 0) {
#ifdef SIMT_TSAN
  const unsigned end = mask ? first + kWarp : thread_count;
  void* const self = __tsan_get_current_fiber();
  void* const meeting = std::malloc(1);  // new each time: it keeps all that was released to it
  for (const auto meet : {__tsan_release, __tsan_acquire}) {
    for (unsigned i = first; i < end; ++i) {
      if (mask && !(mask >> (i - first) & 1)) continue;
      act_as(threads[i]);
      meet(meeting);
    }
  }
  __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
  std::free(meeting);
#endif
}

void run_fiber() {
  arrive(*running);
  grid.run_thread(grid.kernel);
  Thread& self = *running;
  set_state(self, State::kReturned);
  ++returned;
  give_way(self, true);
}

void prepare_thread(Thread& thread, unsigned number) {
  const dim3 size = here.block_size;
  if (!thread.stack) give_stack(thread);
  thread.number = number;
  thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
  set_state(thread, State::kReady);
  prepare(thread, run_fiber);
#ifdef SIMT_TSAN
  char name[64];  // for its reports
  snprintf(name, sizeof name, "thread %u of %s", number, block_name().c_str());
  __tsan_set_fiber_name(thread.tsan_fiber, name);
#endif
}

void run_block(size_t shared_bytes, void* launch_end) {
  permute(order.warps, warp_count);
  permute(order.lanes, kWarp);
  order.warp = order.lane = 0;
  returned = at_barrier = 0;
  here.shared_memory = shared_bytes ? std::malloc(shared_bytes) : nullptr;
  if (shared_bytes) std::memset(here.shared_memory, 0xff, shared_bytes);
  void* const start = std::malloc(1);
  release(start);
  for (unsigned i = 0; i < thread_count; ++i) prepare_thread(threads[i], i);
  for (unsigned i = 0; i < thread_count; ++i) {
    act_as(threads[i]);
    acquire(start);
  }
  act_as(host);
  std::free(start);
  give_way(host);
  // A thread of the block and not the host, from which the next block would learn of this one.
  synchronize();
  act_as(threads[0]);
  std::free(here.shared_memory);
  release(launch_end);
  act_as(host);
}

bool can_launch(const cudaLaunchConfig_t& config) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const bool any = g.x && g.y && g.z && b.x && b.y && b.z;
  return any && g.x < 1u << 31 && g.y < 1 << 16 && g.z < 1 << 16 && b.x <= kMaxThreads &&
         b.y <= kMaxThreads && b.z <= 64 && uint64_t{b.x} * b.y * b.z <= kMaxThreads;
}

Thread& arrive_at(const Wait& wait) {
  if (!running) {
    fail("simt: %s at %s:%d is outside a kernel\n", wait.operation, wait.site.file, wait.site.line);
  }
  running->wait = wait;
  return *running;
}

}  // namespace

unsigned lane() {
  return running ? running->number % kWarp : 0;
}

bool wait_for_block(const char* operation, bool vote, Site site) {
  Thread& self = arrive_at({operation, site, 0, vote, 0});
  set_state(self, State::kWaiting);
  if (++at_barrier == thread_count) {
    bool any = false;
    for (unsigned i = 0; i < thread_count; ++i) {
      if (!same(threads[i].wait, self.wait)) fail_stuck();
      any |= threads[i].wait.value != 0;
    }
    synchronize();
    for (unsigned i = 0; i < thread_count; ++i) {
      threads[i].received = any;
      set_state(threads[i], State::kReady);
    }
    at_barrier = order.warp = order.lane = 0;
  }
  give_way(self);
  return self.received != 0;
}

uint64_t wait_for_warp(const char* operation, unsigned mask, uint64_t value, unsigned source,
                       Site site) {
  Thread& self = arrive_at({operation, site, mask, value, source});
  const unsigned lane = self.number % kWarp, first = self.number - lane;
  const auto in_mask = [mask](unsigned lane) { return lane < kWarp && mask >> lane & 1; };
  if (!in_mask(lane)) fail_at(self.wait, "is not in its own mask " + hexadecimal(mask));
  if (!in_mask(source)) {
    fail_at(self.wait, "reads from lane " + std::to_string(static_cast<int>(source)) +
                           ", which is not in its mask " + hexadecimal(mask));
  }
  if (const unsigned lanes = thread_count - first; lanes < kWarp && mask >> lanes) {
    fail_at(self.wait, "has lanes in its mask " + hexadecimal(mask) + " that the block has not");
  }

  set_state(self, State::kWaiting);
  unsigned& waiting = warps[first / kWarp].waiting;
  waiting |= 1u << lane;
  bool complete = (waiting & mask) == mask;
  for (unsigned i = 0; complete && i < kWarp; ++i) {
    complete = !in_mask(i) || same(threads[first + i].wait, self.wait);
  }
  if (complete) {
    // A shuffle exchanges registers and orders no memory, says CUDA's guide; __syncwarp does.
    if (std::strcmp(operation, "__syncwarp") == 0) synchronize(first, mask);
    waiting &= ~mask;
    for (unsigned i = 0; i < kWarp; ++i) {
      if (!in_mask(i)) continue;
      Thread& thread = threads[first + i];
      thread.received = threads[first + thread.wait.source].wait.value;
      set_state(thread, State::kReady);
    }
  }
  give_way(self);
  return self.received;
}

cudaError_t launch(const cudaLaunchConfig_t& config, void (*run_thread)(const void*),
                   const void* kernel) {
  if (!can_launch(config)) return last_error = cudaErrorInvalidConfiguration;
  if (config.dynamicSmemBytes > kMaxSharedBytes || config.numAttrs) {
    return last_error = cudaErrorInvalidValue;
  }
  static const char* const seed = setting("SIMT_SEED", "0");
  random_state = std::strtoull(seed, nullptr, 10);
  grid = {run_thread, kernel};
  here.grid_size = config.gridDim;
  here.block_size = config.blockDim;
  thread_count = config.blockDim.x * config.blockDim.y * config.blockDim.z;
  warp_count = (thread_count + kWarp - 1) / kWarp;
  adopt(host);
  unsigned set = 0;
  void* const launch_end = std::malloc(1);
  uint3& block = here.block;
  for (block.z = 0; block.z < config.gridDim.z; ++block.z) {
    for (block.y = 0; block.y < config.gridDim.y; ++block.y) {
      for (block.x = 0; block.x < config.gridDim.x; ++block.x) {
        threads = all_threads[set++ % kSets];
        run_block(config.dynamicSmemBytes, launch_end);
      }
    }
  }
  acquire(launch_end);
  std::free(launch_end);
  return cudaSuccess;
}

cudaError_t take_last_error() {
  return std::exchange(last_error, cudaSuccess);
}

}  // namespace simt
