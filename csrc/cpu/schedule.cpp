// Divides a step over threads, none of whose pieces shares a sum with another: every number of
// threads computes the same bits.
#include "schedule.h"

#include <algorithm>

#include "../hyper.h"
#include "../math.h"
#include "parallel.h"

namespace sphere_fused {
namespace {

// Below this many elements a second thread costs more than it saves: OpenMP's wait busily for some
// milliseconds afterwards, on what may be the other half of a core.
constexpr int64_t kWorthAThread = 65536;
// Elements a thread takes from the queue at a time: long stretches suit the memory, and several per
// thread even out what else the machine does.
constexpr int64_t kLeastHandful = 4096, kMostHandful = 131072;

// Elements of parameters that are read twice and stepped together: what is read of so many the
// first time is mostly still in the last level of the cache the second time.
constexpr int64_t kAtOnce = 1 << 20;

bool is_long(const Segments& at) {
  return !at.elementwise && at.inner == 1 && at.dim > kLongRow;
}

bool surveys(const Segments& at) {
  return kRules[at.rule].surveys;
}

int64_t blocks_in(int64_t elements) {
  return (elements + kBlock - 1) / kBlock;
}

int64_t elements_of(const Segments& at) {
  return at.outer * at.dim * at.inner;
}

struct Units {
  int64_t count, size;
};

Units units_of(const Segments& at) {
  if (is_long(at)) return {0, 1};  // stepped by step_long_rows
  if (at.elementwise) {
    return {(at.outer + kUnitElements - 1) / kUnitElements, std::min(at.outer, kUnitElements)};
  }
  if (at.inner == 1) return {at.outer, at.dim};
  return {at.outer * ((at.inner + kUnitColumns - 1) / kUnitColumns), at.dim * kUnitColumns};
}

}  // namespace

void CpuSteps::step_short_rows(const Kernels& kernels, Works works, int threads) {
  int64_t total = 0;
  starts_.clear();
  for (const Work& w : works) {
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
    for (; p < works.count && starts_[p] < to; ++p) {
      // The units that begin in this handful.
      const Units units = units_of(*works.data[p].at);
      const auto begun = [&](int64_t element) {
        const int64_t inside = std::max<int64_t>(element - starts_[p], 0);
        return std::min((inside + units.size - 1) / units.size, units.count);
      };
      if (begun(from) < begun(to)) kernels.units(works.data[p], begun(from), begun(to));
    }
  });
}

void CpuSteps::step_long_rows(const Kernels& kernels, Works works, int threads) {
  rows_.clear(), blocks_.clear();
  for (const Work& w : works) {
    if (!is_long(*w.at)) continue;
    for (int64_t r = 0; r < w.at->outer; ++r) {
      const int64_t count = blocks_in(w.at->dim);
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
  // The last are still in the cache.
  parallel_for<kBackwards>(blocks_.size(), threads, [&](int64_t i) {
    const Block& b = blocks_[i];
    const Row& row = rows_[b.row];
    kernels.block_update(*row.work, row.row, b.block, row.update);
  });
}

void CpuSteps::survey(const Kernels& kernels, Works works, int threads) {
  pieces_.clear();
  for (const Work& w : works) {
    if (!surveys(*w.at)) continue;
    const Segments& at = *w.at;
    const Units units = is_long(at) ? Units{at.outer * blocks_in(at.dim), kBlock} : units_of(at);
    const int64_t per_piece = std::max<int64_t>(kBlock / units.size, 1);
    for (int64_t first = 0; first < units.count; first += per_piece) {
      pieces_.push_back({&w, first, std::min(first + per_piece, units.count), {}});
    }
  }
  if (pieces_.empty()) return;
  parallel_for(pieces_.size(), threads, [&](int64_t i) {
    Piece& p = pieces_[i];
    p.survey = kernels.survey(*p.work, p.first, p.last);
  });
  for (size_t i = 0; i < pieces_.size();) {
    const Work& work = *pieces_[i].work;
    Hyper<double> h = *work.hyper;
    set_sizes(h, *work.at);
    Gram<double> whole{}, row{};
    double most = 0;
    const int64_t blocks = blocks_in(work.at->dim);
    for (; i < pieces_.size() && pieces_[i].work == &work; ++i) {
      const Piece& p = pieces_[i];
      whole += p.survey.sums;
      most = maximum(most, p.survey.peak);
      if (!is_long(*work.at)) continue;
      row += p.survey.sums;
      if (p.last % blocks) continue;
      most = maximum(most, peak(work.at->rule, row, h));
      row = {};
    }
    work.verdict->number = verdict(work.at->rule, whole, most, h);
  }
  survey_as_one(kernels, works, threads);
}

// What is stepped as one segment is read once more, for the products with x.
void CpuSteps::survey_as_one(const Kernels& kernels, Works works, int threads) {
  pieces_.clear();
  for (const Work& w : works) {
    if (!w.verdict || !(w.verdict->number > 1)) continue;
    w.verdict->whole = {};
    const int64_t n = elements_of(*w.at);
    for (int64_t first = 0; first < n; first += kBlock) {
      pieces_.push_back({&w, first, std::min(first + kBlock, n), {}});
    }
  }
  parallel_for(pieces_.size(), threads, [&](int64_t i) {
    Piece& p = pieces_[i];
    p.survey.sums = kernels.survey_elements(*p.work, p.first, p.last);
  });
  for (const Piece& p : pieces_) p.work->verdict->whole += p.survey.sums;
}

void CpuSteps::sort(const Segments* table, int64_t count, const GroupHyper* groups) {
  hypers_.clear(), verdicts_.clear(), once_.clear(), again_.clear();
  hypers_.reserve(count), verdicts_.reserve(count);  // to which Work points
  const GroupHyper* group = nullptr;
  double last_step = -1;
  const Hyper<double>* last[2] = {};  // by whether the rule decays as the group says
  for (int64_t i = 0; i < count; ++i) {
    const Segments& at = table[i];
    if (!at.g || !at.on_cpu) continue;
    const double t = at.step ? *at.step + 1.0 : 0.0;
    if (group != groups + at.group || t != last_step) {
      group = groups + at.group, last_step = t;
      last[false] = last[true] = nullptr;
    }
    const Hyper<double>*& hyper = last[decays(at.rule)];
    if (!hyper) hyper = &hypers_.emplace_back(hyper_at(*group, at, t));
    Verdict* const verdict = surveys(at) ? &verdicts_.emplace_back() : nullptr;
    (is_long(at) || verdict ? again_ : once_).push_back({&at, hyper, verdict});
  }
}

void CpuSteps::step(const Kernels& kernels, const Segments* table, int64_t count,
                    const GroupHyper* groups, int threads) {
  const std::lock_guard<std::mutex> alone(busy_);
  sort(table, count, groups);
  step_short_rows(kernels, {once_.data(), once_.size()}, threads);
  for (size_t first = 0, last; first < again_.size(); first = last) {
    int64_t elements = 0;
    for (last = first; last < again_.size(); ++last) {
      elements += elements_of(*again_[last].at);
      if (last > first && elements > kAtOnce) break;
    }
    const Works together = {again_.data() + first, last - first};
    survey(kernels, together, threads);
    step_short_rows(kernels, together, threads);
    step_long_rows(kernels, together, threads);
  }
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
