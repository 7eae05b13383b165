// How blocks and clusters begin and end, and a grid of them runs. A part of simt.cpp.
#pragma once

#include "schedule.h"

namespace simt {
namespace {

void end_block(Block& block) {
  // As a thread of the block and not the host, from which the next block would learn of this one.
  synchronize([&](const auto& visit) { for_each_thread(block, visit); });
  act_as(block.threads[0]);
  std::free(block.shared_memory);
  release(grid.end);
  act_as(*running);
  if (++block.cluster->ended == grid.cluster_size) finished = block.cluster;
}

void run_fiber() {
  arrive(*running);
  grid.run_thread(grid.kernel);
  Thread& self = *running;
  set_state(self, State::kReturned);
  idle_rounds = 0;
  if (++self.block->returned == grid.thread_count) end_block(*self.block);
  give_way(self, true);
}

void prepare_thread(Block& block, unsigned number) {
  Thread& thread = block.threads[number];
  const dim3 size = here.block_size;
  if (!thread.stack) give_stack(thread);
  thread.number = number;
  thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
  thread.block = &block;
  set_state(thread, State::kReady);
  prepare(thread, run_fiber);
#ifdef SIMT_TSAN
  char name[64];  // for its reports
  snprintf(name, sizeof name, "thread %u of %s", number, name_of(block.index).c_str());
  __tsan_set_fiber_name(thread.tsan_fiber, name);
#endif
}

void start_block(Block& block) {
  permute(block.order.warps, grid.warp_count);
  permute(block.order.lanes, kWarp);
  block.ready = block.returned = block.at_barrier = 0;
  block.shared_memory = nullptr;
  if (grid.shared_bytes) {
    block.shared_memory = static_cast<char*>(std::malloc(grid.shared_bytes));
    std::memset(block.shared_memory, 0xff, grid.shared_bytes);
  }
  void* const start = std::malloc(1);
  release(start);
  for (unsigned i = 0; i < grid.thread_count; ++i) prepare_thread(block, i);
  for_each_thread(block, [&](Thread& thread) {
    act_as(thread);
    acquire(start);
  });
  act_as(host);
  std::free(start);
}

// Of those where nobody is, the one that was left the longest ago.
Block& free_block(unsigned at_a_time) {
  Block* best = nullptr;
  for (unsigned i = 0; i < at_a_time + kSpare; ++i) {
    Block& block = all_blocks[i];
    block.threads = all_threads[i];
    if (!block.cluster && (!best || block.ended < best->ended)) best = &block;
  }
  return *best;
}

void start_cluster(uint64_t number, unsigned at_a_time) {
  const dim3 size = grid.cluster, g = here.grid_size;
  const uint64_t x = g.x / size.x, y = g.y / size.y;
  Cluster* cluster = all_clusters;
  while (cluster->size) ++cluster;
  *cluster = {};
  cluster->size = grid.cluster_size;
  for (unsigned rank = 0; rank < grid.cluster_size; ++rank) {
    Block& block = free_block(at_a_time);
    block.index.x = number % x * size.x + rank % size.x;
    block.index.y = number / x % y * size.y + rank / size.x % size.y;
    block.index.z = number / x / y * size.z + rank / size.x / size.y;
    block.cluster = cluster;
    block.rank = rank;
    cluster->blocks[rank] = blocks[block_count++] = &block;
    start_block(block);
  }
}

void end_cluster(Cluster& cluster, uint64_t ended) {
  unsigned kept = 0;
  for (unsigned b = 0; b < block_count; ++b) {
    if (blocks[b]->cluster != &cluster) {
      blocks[kept++] = blocks[b];
    } else {
      blocks[b]->cluster = nullptr;
      blocks[b]->ended = ended;
    }
  }
  block_count = kept;
  cluster.size = 0;
}

void run_grid() {
  static const unsigned setting = number_setting("SIMT_BLOCKS", 1, kMaxBlocks);
  const unsigned size = grid.cluster_size, at_a_time = std::max(setting / size, 1u) * size;
  const dim3 g = here.grid_size;
  const uint64_t count = uint64_t{g.x} * g.y * g.z / size;
  for (Block& block : all_blocks) block.ended = 0;
  uint64_t begun = 0, ended = 0;
  while (ended < count) {
    while (begun < count && block_count < at_a_time) start_cluster(begun++, at_a_time);
    permute(turns, block_count);
    restart_turns();
    idle_rounds = 0;
    give_way(host);
    end_cluster(*std::exchange(finished, nullptr), ++ended);
  }
}

}  // namespace
}  // namespace simt
