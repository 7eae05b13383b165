// Whose turn it is. A warp runs on for as long as any of its lanes can, and a block for as long as
// any of its warps can, so that they get as far apart as what they wait for lets them; but after an
// atomic operation that changes something, it is another block's turn. A part of simt.cpp.
#pragma once

#include "block.h"

namespace simt {
namespace {

// Of threads that only sleep, until that is taken for an endless wait.
constexpr unsigned kMostRounds = 10'000;

unsigned turns[kMaxBlocks], turn;  // of the blocks
unsigned idle_rounds;              // since anything was done that a sleeping thread may wait for
unsigned idle_atomics;             // of the thread that runs, since it began to

const char* setting(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

unsigned number_setting(const char* name, unsigned otherwise, unsigned most) {
  const char* const text = setting(name, nullptr);
  if (!text) return otherwise;
  char* end;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (end == text || *end || !value || value > most) {
    fail("simt: %s is %s, not a number from 1 to %u\n", name, text, most);
  }
  return static_cast<unsigned>(value);
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

// The first in the order is next.
void restart_turns(Block& block) {
  block.order.warp = block.order.lane = 0;
}

void restart_turns() {
  turn = 0;
  for (unsigned b = 0; b < block_count; ++b) restart_turns(*blocks[b]);
}

Thread& next_thread() {
  while (!blocks[turns[turn]]->ready) turn = (turn + 1) % block_count;
  Block& block = *blocks[turns[turn]];
  Order& order = block.order;
  for (;;) {
    if (order.lane == kWarp) {
      order.lane = 0;
      if (!block.warps[order.warps[order.warp]].ready) {
        order.warp = (order.warp + 1) % grid.warp_count;
      }
    }
    const unsigned number = order.warps[order.warp] * kWarp + order.lanes[order.lane++];
    if (number >= grid.thread_count) continue;
    if (Thread& thread = block.threads[number]; thread.state == State::kReady) return thread;
  }
}

void set_state(Thread& thread, State state) {
  const unsigned change = (state == State::kReady) - (thread.state == State::kReady);
  asleep += (state == State::kAsleep) - (thread.state == State::kAsleep);
  thread.state = state;
  ready += change;
  thread.block->ready += change;
  thread.block->warps[thread.number / kWarp].ready += change;
}

void wake_all() {
  if (++idle_rounds > kMostRounds) {
    fail_everywhere("threads do nothing but sleep, waiting for what never comes");
  }
  for (unsigned b = 0; b < block_count; ++b) {
    for_each_thread(*blocks[b], [](Thread& thread) {
      if (thread.state == State::kAsleep) set_state(thread, State::kReady);
    });
  }
  restart_turns();
}

// Lets another thread run, or the host where a cluster has ended.
void give_way(Fiber& self, bool for_good = false) {
  idle_atomics = 0;
  if (!finished && !ready && asleep) wake_all();
  if (!finished && !ready) fail_stuck();
  if (!finished) {
    running = &next_thread();
    here.thread = running->index;
    here.block = running->block->index;
    here.shared_memory = running->block->shared_memory;
  } else {
    running = nullptr;
  }
  Fiber& next = running ? *running : host;
  if (&next != &self) switch_fiber(self, next, for_good);
}

// Has each of the threads that `for_each` visits see what any did before.
template <class ForEach>
void synchronize([[maybe_unused]] const ForEach& for_each) {
#ifdef SIMT_TSAN
  void* const self = __tsan_get_current_fiber();
  void* const meeting = std::malloc(1);  // new each time: it keeps all that was released to it
  for (const auto meet : {__tsan_release, __tsan_acquire}) {
    for_each([&](Thread& thread) {
      act_as(thread);
      meet(meeting);
    });
  }
  __tsan_switch_to_fiber(self, __tsan_switch_to_fiber_no_sync);
  std::free(meeting);
#endif
}

}  // namespace
}  // namespace simt
