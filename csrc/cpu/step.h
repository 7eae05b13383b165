// What step.cpp, compiled once per instruction set, does for schedule.cpp, which divides the work.
#pragma once

#include "../rules.gen.h"

namespace sphere_fused {

// What a rule that decides over the whole tensor first has said of one.
struct Verdict {
  double number = 1;
  Gram<double> whole;  // where that is above 1: the products that all segments are stepped by
};

// One parameter with the hyperparameters of this step, whose sizes are those of another parameter.
struct Work {
  const Segments* at;
  const Hyper<double>* hyper;
  Verdict* verdict;  // null where the rule has none
};

// Elements of a row that are summed in one go; what threads share a longer row by.
inline constexpr int64_t kBlock = 32768;
// Longer rows would not stay in a core's cache between their two sweeps.
inline constexpr int64_t kLongRow = 2 * kBlock;
// Elements, and columns, that one unit of work takes of a parameter without rows.
inline constexpr int64_t kUnitElements = 1024;
inline constexpr int64_t kUnitColumns = 64;

// The products of w and g alone over some segments, and the largest number that the rule made of
// those of one.
struct Survey {
  Gram<double> sums;
  double peak;
};

struct Kernels {
  const char* isa;
  bool (*runs_here)();
  // The units [first, last) of a parameter: rows, stretches of elements, or strips of columns.
  void (*units)(const Work&, int64_t first, int64_t last);
  // A row in three phases: the Gram of each block, one decision, the update of each block.
  Gram<double> (*block_gram)(const Work&, int64_t row, int64_t block);
  Update<double> (*row_update)(const Work&, int64_t row, const Gram<double>& gram);
  void (*block_update)(const Work&, int64_t row, int64_t block, const Update<double>& update);
  // What verdicts are made of; nothing is written. Of units, or of a block of a long row, which
  // has no peak; and all products of the elements [first, last).
  Survey (*survey)(const Work&, int64_t first, int64_t last);
  Gram<double> (*survey_elements)(const Work&, int64_t first, int64_t last);
  // Nothing but the traffic of a step: reads w, g and m, and writes w and m.
  void (*stream)(float* w, const float* g, float* m, int64_t n);
};

extern const Kernels kBaseline;
#if defined(__x86_64__)
extern const Kernels kX86_64_v3;
#endif

}  // namespace sphere_fused
