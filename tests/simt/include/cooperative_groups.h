// Clusters: blocks that run at the same time and can read each other's shared memory. A launch asks
// for them with cudaLaunchAttributeClusterDimension; without it, each block is a cluster.
#pragma once

#include "cuda_runtime.h"

namespace simt {

void wait_for_cluster(const char* operation, Site);
unsigned cluster_rank();
unsigned cluster_size();
// Where block `rank` of the cluster has what this block has at `address`.
void* in_shared_memory_of(const char* operation, const void* address, unsigned rank, Site);

}  // namespace simt

namespace cooperative_groups {

struct cluster_group {
  static void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    simt::wait_for_cluster("cluster.sync", {file, line});
  }
  static unsigned block_rank() { return simt::cluster_rank(); }
  static unsigned num_blocks() { return simt::cluster_size(); }

  template <class T>
  static T* map_shared_rank(T* address, unsigned rank, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
    const simt::Site site = {file, line};
    return static_cast<T*>(simt::in_shared_memory_of("map_shared_rank", address, rank, site));
  }
};

inline cluster_group this_cluster() {
  return {};
}

}  // namespace cooperative_groups
