// The block of threads that is running, and how a fault of its is reported. A part of simt.cpp.
#pragma once

#include "cuda_runtime.h"

#include <cstdarg>
#include <string>

#include "fiber.h"

namespace simt {

Here here;

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;

// ThreadSanitizer cannot tell what one fiber does for two blocks apart, and a new fiber takes it a
// third of a millisecond. So blocks take turns at these, and races between two blocks are found
// unless their numbers are a multiple of this apart.
#ifdef SIMT_TSAN
constexpr unsigned kSets = 3;
#else
constexpr unsigned kSets = 1;
#endif

enum class State { kReady, kWaiting, kReturned };

struct Wait {
  const char* operation;
  Site site;
  unsigned mask;  // 0 for the whole block
  uint64_t value;
  unsigned source;
};

bool same(const char* a, const char* b) {
  return a == b || std::strcmp(a, b) == 0;
}

bool same(const Wait& a, const Wait& b) {
  return a.site.line == b.site.line && a.mask == b.mask && same(a.operation, b.operation) &&
         same(a.site.file, b.site.file);
}

struct Thread : Fiber {
  unsigned number = 0;  // in its block
  uint3 index;
  State state = State::kReturned;
  Wait wait = {};
  uint64_t received = 0;
};

struct Warp {
  unsigned ready = 0;    // how many lanes can run
  unsigned waiting = 0;  // the mask of those that wait for others of the warp
};

struct Grid {
  void (*run_thread)(const void*);
  const void* kernel;
};

struct Order {
  unsigned warps[kWarp], lanes[kWarp];
  unsigned warp, lane;  // whose turn it is next
};

// No containers: the linker may take an instrumented copy of their functions from a kernel's file.
Fiber host;
Grid grid;
Order order;
Thread all_threads[kSets][kMaxThreads];
Thread* threads = all_threads[0];  // of the block
Warp warps[kMaxThreads / kWarp];
unsigned thread_count, warp_count;  // in a block
unsigned ready, returned, at_barrier;
Thread* running;

std::string block_name() {
  char name[64];
  snprintf(name, sizeof name, "block (%u,%u,%u)", here.block.x, here.block.y, here.block.z);
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
       running->number, block_name().c_str(), what.c_str());
}

std::string hexadecimal(unsigned mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string describe(const Thread& thread) {
  if (thread.state == State::kReturned) return "returned";
  const Wait& wait = thread.wait;
  const std::string mask = wait.mask ? " with mask " + hexadecimal(wait.mask) : "";
  return std::string("waiting in ") + wait.operation + mask + " at " + wait.site.file + ":" +
         std::to_string(wait.site.line);
}

// Nothing can run any more: tells where every thread is.
[[noreturn]] void fail_stuck() {
  bool in_warp = false;
  for (unsigned i = 0; i < warp_count; ++i) in_warp |= warps[i].waiting != 0;
  std::string report = "simt: ";
  report += in_warp ? "warp operation not reached by all lanes of its mask"
                    : "barrier not reached by all threads";
  report += " in " + block_name() + "\n";
  for (unsigned first = 0, end; first < thread_count; first = end) {
    const std::string state = describe(threads[first]);
    for (end = first + 1; end < thread_count && describe(threads[end]) == state;) ++end;
    report += "  thread " + std::to_string(first);
    if (end - first > 1) report += " to " + std::to_string(end - 1);
    report += ": " + state + "\n";
  }
  fail("%s", report.c_str());
}

}  // namespace
}  // namespace simt
