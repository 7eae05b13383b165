// The blocks of threads that are running, and how a fault of theirs is reported. A part of
// simt.cpp.
#pragma once

#include "cooperative_groups.h"

#include <cstdarg>
#include <string>

#include "fiber.h"

namespace simt {

Here here;

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kBarriers = 16;
constexpr unsigned kMaxCluster = 8;  // what every GPU with clusters can do
constexpr unsigned kMaxBlocks = 8;   // at a time

// ThreadSanitizer cannot tell what one fiber does for two blocks apart, and a new fiber takes it a
// third of a millisecond. So a block takes the fibers of the one that ended the longest ago, and
// races between two blocks are found unless this many have ended between them. Fibers are made when
// a block first needs them. ThreadSanitizer of g++ 12 has memory for some 7000, which is enough for
// 8 blocks of 512 threads at a time or 5 of 1024, and a few hundred are a matter of a second.
#ifdef SIMT_TSAN
constexpr unsigned kSpare = 2;
#else
constexpr unsigned kSpare = 0;
#endif

enum class State { kReady, kAsleep, kWaiting, kReturned };

struct Wait {
  const char* operation = "";
  Site site = {};
  unsigned mask = 0;  // of the warp that waits for itself
  uint64_t value = 0;
  unsigned source = 0;
  unsigned barrier = 0, count = 0;  // of a named barrier
};

bool same(const char* a, const char* b) {
  return a == b || std::strcmp(a, b) == 0;
}

bool same(const Wait& a, const Wait& b) {
  return a.site.line == b.site.line && a.mask == b.mask && a.barrier == b.barrier &&
         a.count == b.count && same(a.operation, b.operation) && same(a.site.file, b.site.file);
}

struct Block;

struct Thread : Fiber {
  unsigned number = 0;  // in its block
  uint3 index;
  Block* block = nullptr;
  State state = State::kReturned;
  Wait wait;
  uint64_t received = 0;
};

struct Warp {
  unsigned ready = 0;    // how many lanes can run
  unsigned waiting = 0;  // the mask of those that wait for others of the warp
};

struct Order {
  unsigned warps[kWarp], lanes[kWarp];
  unsigned warp, lane;  // whose turn it is next
};

struct Cluster {
  Block* blocks[kMaxCluster];
  unsigned size;  // 0 while it is nobody's
  unsigned at_barrier, ended;
};

struct Block {
  Thread* threads;
  Warp warps[kMaxThreads / kWarp];
  Order order;
  uint3 index;
  Cluster* cluster;  // null while it is nobody's
  unsigned rank;
  char* shared_memory;  // still where it was when the block has ended
  unsigned ready, returned, at_barrier;
  unsigned at_named[kBarriers];
  uint64_t ended;  // how many blocks had by then
};

struct Grid {
  void (*run_thread)(const void*);
  const void* kernel;
  unsigned thread_count, warp_count;  // in a block
  dim3 cluster;
  unsigned cluster_size;
  size_t shared_bytes;
  void* end;  // released by every block
};

// No containers: the linker may take an instrumented copy of their functions from a kernel's file.
Fiber host;
Grid grid;
Thread all_threads[kMaxBlocks + kSpare][kMaxThreads];
Block all_blocks[kMaxBlocks + kSpare];
Cluster all_clusters[kMaxBlocks];
Block* blocks[kMaxBlocks];  // those of the clusters that run, in grid order
unsigned block_count;
unsigned ready, asleep;  // threads of them
Cluster* finished;       // its blocks have all ended
Thread* running;

template <class Visit>
void for_each_thread(const Block& block, const Visit& visit) {
  for (unsigned i = 0; i < grid.thread_count; ++i) visit(block.threads[i]);
}

std::string name_of(uint3 block) {
  char name[64];
  snprintf(name, sizeof name, "block (%u,%u,%u)", block.x, block.y, block.z);
  return name;
}

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  fflush(nullptr);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  _exit(kFault);
}

[[noreturn]] void fail_at(const Wait& wait, const std::string& what) {
  fail("simt: %s at %s:%d: thread %u of %s %s\n", wait.operation, wait.site.file, wait.site.line,
       running->number, name_of(running->block->index).c_str(), what.c_str());
}

std::string hexadecimal(unsigned mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string describe(const Thread& thread) {
  if (thread.state == State::kReturned) return "returned";
  if (thread.state == State::kReady) return "running";
  const Wait& wait = thread.wait;
  std::string what = thread.state == State::kAsleep ? "asleep in " : "waiting in ";
  what += wait.operation;
  if (wait.mask) what += " with mask " + hexadecimal(wait.mask);
  if (wait.count) {
    what += "(" + std::to_string(wait.barrier) + ", " + std::to_string(wait.count) + ")";
  }
  return what + " at " + wait.site.file + ":" + std::to_string(wait.site.line);
}

// Tells where every thread is, after what is wrong with them all.
[[noreturn]] void fail_everywhere(const std::string& what) {
  std::string report = "simt: " + what + "\n";
  for (unsigned b = 0; b < block_count; ++b) {
    const Thread* const threads = blocks[b]->threads;
    if (block_count > 1) report += name_of(blocks[b]->index) + "\n";
    for (unsigned first = 0, end; first < grid.thread_count; first = end) {
      const std::string state = describe(threads[first]);
      for (end = first + 1; end < grid.thread_count && describe(threads[end]) == state;) ++end;
      report += "  thread " + std::to_string(first);
      if (end - first > 1) report += " to " + std::to_string(end - 1);
      report += ": " + state + "\n";
    }
  }
  fail("%s", report.c_str());
}

// What the threads of a block wait for in vain; empty if for nothing, or only for other blocks.
std::string lacking(const Block& block) {
  bool in_warp = false, at_named = false;
  for (unsigned i = 0; i < grid.warp_count; ++i) in_warp |= block.warps[i].waiting != 0;
  for (const unsigned arrived : block.at_named) at_named |= arrived != 0;
  const char* const what = in_warp    ? "warp operation not reached by all lanes of its mask"
                           : at_named ? "named barrier not reached by as many threads as it counts"
                           : block.at_barrier ? "barrier not reached by all threads"
                                              : nullptr;
  return what ? what + (" in " + name_of(block.index)) : "";
}

[[noreturn]] void fail_stuck() {
  std::string what;
  for (unsigned b = 0; b < block_count && what.empty(); ++b) what = lacking(*blocks[b]);
  for (unsigned b = 0; b < block_count && what.empty(); ++b) {
    if (!blocks[b]->cluster->at_barrier) continue;
    what = "cluster barrier not reached by all threads of the cluster of ";
    what += name_of(blocks[b]->index);
  }
  fail_everywhere(what);
}

}  // namespace
}  // namespace simt
