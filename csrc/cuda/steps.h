// The CUDA backend as the rest of the module sees it: no CUDA header is needed to include this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "table.h"

namespace sphere_fused {

// What keeps the kernels from running on GPU number `device`, or "". Makes it the current one.
std::string cuda_problem(int device);

// The parameters of one plan that are on one device. Between steps everything they need lies in
// memory that the owner provides; a step neither allocates there nor waits.
class CudaSteps {
 public:
  // `indices`: which of `table` they are.
  CudaSteps(int device, std::vector<size_t> indices, const std::vector<Segments>& table,
            size_t group_count);

  // What the memory, aligned to 16 bytes, must hold before the first step.
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
    Kernel kernel;
    int shared_bytes;
    size_t map;  // where in the memory its entry_of lies
    int64_t units;
  };

  void begin(const std::vector<Segments>& table, const std::vector<GroupHyper>& groups,
             void* memory, void* stream);
  int device_;
  std::vector<size_t> indices_;
  std::vector<DType> g_types_;
  std::vector<Launch> launches_;
  std::vector<unsigned char> image_;
  size_t groups_at_;  // where in the memory the groups lie
  // What the memory holds; nothing where that is not known.
  std::vector<std::optional<const void*>> gradients_;
  std::vector<std::optional<GroupHyper>> groups_;
  // What must be changed there for the coming step.
  std::vector<NewGradient> new_gradients_;
  std::vector<NewGroup> new_groups_;
};

}  // namespace sphere_fused
