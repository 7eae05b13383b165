// Divides a step over threads, none of whose pieces shares a sum with another: every number of
// threads computes the same bits.
#include "schedule.h"

#include <pthread.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>

#include "../hyper.h"
#include "../math.h"

namespace sphere_fused {
namespace {

// Below this many elements a second thread costs more than it saves: OpenMP's wait busily for some
// milliseconds afterwards, on what may be the other half of a core.
constexpr int64_t kWorthAThread = 65536;
// Elements a thread takes from the queue at a time: long stretches suit the memory, and several per
// thread even out what else the machine does.
constexpr int64_t kLeastHandful = 4096, kMostHandful = 131072;

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

// Calls f(i) for i in [0, count). OpenMP's threads do not survive a fork: a child runs alone.
template <class F>
void parallel_for(int64_t count, int threads, F f) {
  const int used = forked ? 1 : int(std::min<int64_t>(threads, count));
  if (used <= 1) {
    for (int64_t i = 0; i < count; ++i) f(i);
    return;
  }
  Share shares[kMostShares];
  const int parts = std::min(used, kMostShares);
  for (int k = 0; k < parts; ++k) {
    shares[k].next = count * k / parts;
    shares[k].end = count * (k + 1) / parts;
  }
#pragma omp parallel num_threads(used)
  for (int k = 0, own = thread_number(); k < parts; ++k) {
    Share& share = shares[(own + k) % parts];
    for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) f(i);
  }
}

struct Units {
  int64_t count, size;
};

Units units_of(const Segments& at) {
  if (at.elementwise) {
    return {(at.outer + kUnitElements - 1) / kUnitElements, std::min(at.outer, kUnitElements)};
  }
  if (at.inner == 1) return {at.outer, at.dim};
  return {at.outer * ((at.inner + kUnitColumns - 1) / kUnitColumns), at.dim * kUnitColumns};
}

}  // namespace

void CpuSteps::step_short_rows(const Kernels& kernels, int threads) {
  int64_t total = 0;
  starts_.clear();
  for (const Work& w : short_rows_) {
    starts_.push_back(total);
    const Units units = units_of(*w.at);
    total += units.count * units.size;
  }
  const int64_t share = total / (16 * threads);
  const int64_t size = std::clamp(share, kLeastHandful, kMostHandful);
  const int64_t handfuls = (total + size - 1) / size;
  const int useful = int(std::min<int64_t>(threads, total / kWorthAThread + 1));
  parallel_for(handfuls, useful, [&](int64_t handful) {
    const int64_t from = handful * size, to = std::min(from + size, total);
    size_t p = std::upper_bound(starts_.begin(), starts_.end(), from) - starts_.begin() - 1;
    for (; p < short_rows_.size() && starts_[p] < to; ++p) {
      // The units that begin in this handful.
      const Units units = units_of(*short_rows_[p].at);
      const auto begun = [&](int64_t element) {
        const int64_t inside = std::max<int64_t>(element - starts_[p], 0);
        return std::min((inside + units.size - 1) / units.size, units.count);
      };
      if (begun(from) < begun(to)) kernels.units(short_rows_[p], begun(from), begun(to));
    }
  });
}

void CpuSteps::step_long_rows(const Kernels& kernels, int threads) {
  rows_.clear(), blocks_.clear();
  for (const Work& w : long_rows_) {
    for (int64_t r = 0; r < w.at->outer; ++r) {
      const int64_t count = (w.at->dim + kBlock - 1) / kBlock;
      for (int64_t b = 0; b < count; ++b) blocks_.push_back({int64_t(rows_.size()), b, {}});
      rows_.push_back({&w, r, int64_t(blocks_.size()) - count, count, {}});
    }
  }
  parallel_for(blocks_.size(), threads, [&](int64_t i) {
    Block& b = blocks_[i];
    b.gram = kernels.block_gram(*rows_[b.row].work, rows_[b.row].row, b.block);
  });
  parallel_for(rows_.size(), threads, [&](int64_t i) {
    Row& row = rows_[i];
    Gram<double> sum{};
    for (int64_t b = row.first_block; b < row.first_block + row.blocks; ++b) sum += blocks_[b].gram;
    row.update = kernels.row_update(*row.work, row.row, sum);
  });
  parallel_for(blocks_.size(), threads, [&](int64_t i) {
    const Row& row = rows_[blocks_[i].row];
    kernels.block_update(*row.work, row.row, blocks_[i].block, row.update);
  });
}

void CpuSteps::sort(const Segments* table, int64_t count, const GroupHyper* groups) {
  hypers_.clear(), short_rows_.clear(), long_rows_.clear();
  hypers_.reserve(count);  // to which Work points
  const GroupHyper* group = nullptr;
  double last_step = -1;
  for (int64_t i = 0; i < count; ++i) {
    const Segments& at = table[i];
    if (!at.g || !at.on_cpu) continue;
    const double t = at.step ? *at.step + 1.0 : 0.0;
    if (group != groups + at.group || t != last_step) {
      group = groups + at.group, last_step = t;
      hypers_.push_back(hyper_at(*group, at, t));
    }
    const bool is_long = at.inner == 1 && at.dim > kLongRow;
    (is_long ? long_rows_ : short_rows_).push_back({&at, &hypers_.back()});
  }
}

void CpuSteps::step(const Kernels& kernels, const Segments* table, int64_t count,
                    const GroupHyper* groups, int threads) {
  const std::lock_guard<std::mutex> alone(busy_);
  sort(table, count, groups);
  step_short_rows(kernels, threads);
  step_long_rows(kernels, threads);
  for (int64_t i = 0; i < count; ++i) {
    const Segments& at = table[i];
    if (at.g && at.on_cpu && at.step) *at.step += 1;
  }
}

void stream(const Kernels& kernels, float* w, const float* g, float* m, int64_t count,
            int threads) {
  parallel_for((count + kMostHandful - 1) / kMostHandful, threads, [&](int64_t handful) {
    const int64_t first = handful * kMostHandful;
    kernels.stream(w + first, g + first, m + first, std::min(kMostHandful, count - first));
  });
}

}  // namespace sphere_fused
