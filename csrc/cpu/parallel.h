// Pieces of a step on all threads.
#pragma once

#include <pthread.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace sphere_fused {
namespace {

int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// What a thread begins with, which in the next step it finds in its cache; then it helps the
// others.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;
};
constexpr int kMostShares = 64;

// Calls f(i) for i in [0, count), or backwards: then a thread begins with what it did last before,
// which is in its cache, and not in another's. OpenMP's threads do not survive a fork: a child runs
// alone.
enum Order { kForwards, kBackwards };
template <Order kOrder = kForwards, class F>
void parallel_for(int64_t count, int threads, F f) {
  const auto at = [&](int64_t i) { f(kOrder == kForwards ? i : count - 1 - i); };
  const int used = forked ? 1 : int(std::min<int64_t>(threads, count));
  if (used <= 1) {
    for (int64_t i = 0; i < count; ++i) at(i);
    return;
  }
  Share shares[kMostShares];
  const int parts = std::min(used, kMostShares);
  for (int k = 0; k < parts; ++k) {
    shares[k].next = count * k / parts;
    shares[k].end = count * (k + 1) / parts;
  }
#pragma omp parallel num_threads(used)
  for (int k = 0; k < parts; ++k) {
    const int thread = thread_number() % parts;
    const int own = kOrder == kForwards ? thread : parts - 1 - thread;
    Share& share = shares[(own + k) % parts];
    for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) at(i);
  }
}

}  // namespace
}  // namespace sphere_fused
