// Divides a step over threads. The pieces depend on the parameters alone, so that every number of
// threads computes the same bits.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <vector>

#include "../hyper.h"
#include "../math.h"
#include "step.h"

namespace sphere_fused {
namespace {

// Below this many elements a second thread costs more than it saves.
constexpr int64_t kWorthAThread = 8192;
// Elements a thread takes from the queue at a time: long stretches suit the memory, and several per
// thread even out what else the machine does.
constexpr int64_t kLeastHandful = 4096, kMostHandful = 131072;

std::atomic<bool> forked{false};
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// Calls f(i) for i in [0, count). OpenMP's threads do not survive a fork: a child runs alone.
template <class F>
void parallel_for(int64_t count, int threads, F f) {
  const int used = forked ? 1 : int(std::min<int64_t>(threads, count));
  if (used <= 1) {
    for (int64_t i = 0; i < count; ++i) f(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(used)
  for (int64_t i = 0; i < count; ++i) f(i);
}

struct Units {
  int64_t count, size;
};

Units units_of(const Segments& at) {
  if (at.dim == 1) return {(at.outer + kUnitElements - 1) / kUnitElements, kUnitElements};
  if (at.inner == 1) return {at.outer, at.dim};
  return {at.outer * ((at.inner + kUnitColumns - 1) / kUnitColumns), at.dim * kUnitColumns};
}

void step_short_rows(const Kernels& kernels, const std::vector<Work>& work, int threads) {
  std::vector<int64_t> starts;  // of each parameter, in elements of all parameters end to end
  int64_t total = 0;
  for (const Work& w : work) {
    starts.push_back(total);
    const Units units = units_of(*w.at);
    total += units.count * units.size;
  }
  const int64_t share = total / (8 * threads);
  const int64_t size = std::clamp(share, kLeastHandful, kMostHandful);
  const int64_t handfuls = (total + size - 1) / size;
  const int useful = int(std::min<int64_t>(threads, total / kWorthAThread + 1));
  parallel_for(handfuls, useful, [&](int64_t handful) {
    const int64_t from = handful * size, to = std::min(from + size, total);
    size_t p = std::upper_bound(starts.begin(), starts.end(), from) - starts.begin() - 1;
    for (; p < work.size() && starts[p] < to; ++p) {
      // The units that begin in this handful.
      const Units units = units_of(*work[p].at);
      const auto begun = [&](int64_t element) {
        const int64_t inside = std::max<int64_t>(element - starts[p], 0);
        return std::min((inside + units.size - 1) / units.size, units.count);
      };
      if (begun(from) < begun(to)) kernels.units(work[p], begun(from), begun(to));
    }
  });
}

void step_long_rows(const Kernels& kernels, const std::vector<Work>& work, int threads) {
  struct Row {
    const Work* work;
    int64_t row, first_block, blocks;
    Update<double> update;
  };
  struct Block {
    size_t row;
    int64_t block;
    Gram<double> gram;
  };
  std::vector<Row> rows;
  std::vector<Block> blocks;
  for (const Work& w : work) {
    for (int64_t r = 0; r < w.at->outer; ++r) {
      const int64_t count = (w.at->dim + kBlock - 1) / kBlock;
      for (int64_t b = 0; b < count; ++b) blocks.push_back({rows.size(), b, {}});
      rows.push_back({&w, r, int64_t(blocks.size()) - count, count, {}});
    }
  }
  parallel_for(blocks.size(), threads, [&](int64_t i) {
    Block& b = blocks[i];
    b.gram = kernels.block_gram(*rows[b.row].work, rows[b.row].row, b.block);
  });
  parallel_for(rows.size(), threads, [&](int64_t i) {
    Gram<double> sum{};
    for (int64_t b = rows[i].first_block; b < rows[i].first_block + rows[i].blocks; ++b) {
      sum += blocks[b].gram;
    }
    rows[i].update = kernels.row_update(*rows[i].work, rows[i].row, sum);
  });
  parallel_for(blocks.size(), threads, [&](int64_t i) {
    const Row& row = rows[blocks[i].row];
    kernels.block_update(*row.work, row.row, blocks[i].block, row.update);
  });
}

}  // namespace

void step(const Kernels& kernels, const Segments* table, int64_t count, const GroupHyper* groups,
          int threads) {
  std::vector<Work> short_rows, long_rows;
  // Parameters of a group mostly share their step count, and powers are slow.
  std::deque<Hyper<double>> hypers;
  const GroupHyper* group = nullptr;
  double last_step = -1;
  for (int64_t i = 0; i < count; ++i) {
    const Segments& at = table[i];
    if (!at.g || !at.on_cpu) continue;
    const double t = at.step ? *at.step + 1.0 : 0.0;
    if (group != groups + at.group || t != last_step) {
      group = groups + at.group, last_step = t;
      hypers.push_back(hyper_at(*group, t));
    }
    const bool is_long = at.inner == 1 && at.dim > kLongRow;
    (is_long ? long_rows : short_rows).push_back({&at, &hypers.back()});
  }
  step_short_rows(kernels, short_rows, threads);
  step_long_rows(kernels, long_rows, threads);
  for (int64_t i = 0; i < count; ++i) {
    const Segments& at = table[i];
    if (at.g && at.on_cpu && at.step) *at.step += 1;
  }
}

}  // namespace sphere_fused
