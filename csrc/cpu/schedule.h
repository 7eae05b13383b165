// The CPU backend, as the module sees it.
#pragma once

#include <mutex>
#include <vector>

#include "step.h"

namespace sphere_fused {

// The steps of a plan's parameters that are to be stepped here. Deterministic: which thread does
// what changes no bit of any result. What a step has allocated is kept for the next.
class CpuSteps {
 public:
  void step(const Kernels& kernels, const Segments* table, int64_t count, const GroupHyper* groups,
            int threads);

 private:
  struct Row {
    const Work* work;
    int64_t row, first_block, blocks;
    Update<double> update;
  };
  struct Block {
    int64_t row;
    int64_t block;
    Gram<double> gram;
  };
  // What is surveyed in one go: units of a parameter, a block of a long row, or elements.
  struct Piece {
    const Work* work;
    int64_t first, last;
    Survey survey;
  };
  // Parameters that are stepped together.
  struct Works {
    const Work* data;
    size_t count;

    const Work* begin() const { return data; }
    const Work* end() const { return data + count; }
  };

  void sort(const Segments* table, int64_t count, const GroupHyper* groups);
  void step_short_rows(const Kernels& kernels, Works works, int threads);
  void step_long_rows(const Kernels& kernels, Works works, int threads);
  void survey(const Kernels& kernels, Works works, int threads);
  void survey_as_one(const Kernels& kernels, Works works, int threads);

  std::mutex busy_;  // somebody may step an optimizer from two threads
  // Parameters of a group mostly share their step count, and powers are slow.
  std::vector<Hyper<double>> hypers_;
  std::vector<Work> once_, again_;  // parameters read once, and those read more often
  std::vector<Verdict> verdicts_;
  std::vector<int64_t> starts_;  // of works, in elements of all of them end to end
  std::vector<Row> rows_;
  std::vector<Block> blocks_;
  std::vector<Piece> pieces_;
};

// What a step is measured against: one that only moves the bytes of `count` weights.
void stream(const Kernels& kernels, float* w, const float* g, float* m, int64_t count, int threads);

}  // namespace sphere_fused
