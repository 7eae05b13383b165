// The CUDA backend as the rest of the module sees it: no CUDA header is needed to include this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "begin.cuh"
#include "table.h"

namespace sphere_fused {

// What keeps the kernels from running on GPU number `device`, or "". Makes it the current one.
std::string cuda_problem(int device);

// The parameters of one plan that are on one device. Between steps everything they need lies in
// memory that the owner provides; a step neither allocates there nor waits.
class CudaSteps {
 public:
  // `indices`: which of `table` they are. Throws std::runtime_error if CUDA refuses.
  CudaSteps(int device, std::vector<size_t> indices, const std::vector<Segments>& table,
            size_t group_count);

  // How long the memory, aligned to 16 bytes, must be, and what it must begin with before the first
  // step.
  size_t memory_bytes() const { return memory_bytes_; }
  const std::vector<unsigned char>& image() const { return image_; }

  // Whether the gradients have the dtypes they had when this was made: the kernels depend on them.
  bool fits(const std::vector<Segments>& table) const;

  // Enqueues a step on `stream`. A grid has at most `most_blocks`, which then take turns.
  // `capturing`: into a graph, on which the stream must be. Throws std::runtime_error if CUDA
  // refuses.
  void step(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups, void* memory,
            void* stream, int64_t most_blocks, bool capturing);

 private:
  struct Launch {
    Phase phase;
    Kernel kernel;
    int cluster, shared_bytes;
    int64_t resident;  // most blocks that are worth it where they wait for each other, or 0
    int64_t units = 0;
    size_t map = 0;  // where in the memory its entry_of lies
  };

  void lay_out(const std::vector<Segments>& table);
  Launch& launch_of(Phase phase, Kernel kernel, int cluster, int shared_bytes, bool waits);
  void begin(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
             unsigned char* memory, void* stream);

  int device_;
  std::vector<size_t> indices_;
  std::vector<DType> g_types_;
  std::vector<Launch> launches_;  // in their order
  std::vector<unsigned char> image_;
  // Where in the memory these lie.
  size_t groups_at_, counters_at_, updates_at_, sums_at_, surveys_at_, memory_bytes_;
  int64_t counter_count_;
  // What the memory holds; nothing where that is not known.
  std::vector<std::optional<const void*>> gradients_;
  std::vector<std::optional<GroupHyper>> groups_;
  // Whether a graph may write there at any time.
  bool captured_ = false;
  // What must be changed there for the coming step.
  NewGradients new_gradients_;
  std::vector<NewGroup> new_groups_;
};

}  // namespace sphere_fused
