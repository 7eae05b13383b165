// Many short rows: a block brings a tile of them into shared memory, where each thread steps a row.
#pragma once

#include "agent.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <Direction kDirection, class W, class G>
__device__ __forceinline__ void step_tile(const Entry& entry, int64_t tile) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector;
  constexpr int kElements = kTileBytes / sizeof(T);
  constexpr int kChunks = int(ceil_div(kElements, kThreads * kVector));
  constexpr int kAtOnce =
      kDirection == kMoment ? kChunks : chunks_at_once(sizeof(T), kVector, kDirection == kAdam);
  static_assert(kChunks % kAtOnce == 0);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const int dim = int(at.dim), most = tile_rows(dim, sizeof(T));
  const int64_t first_row = tile * most;
  const int rows = at.outer - first_row < most ? int(at.outer - first_row) : most;
  const int thread = int(threadIdx.x);
  const Elements<W, G> all(entry, first_row * dim);
  const Share<int> mine = {thread * kVector, kThreads * kVector, 1, rows * dim};
  T* const shared_w = dynamic_shared<T>();
  T* const shared_x = shared_w + spread(kElements);
  T* const shared_g = shared_x + spread(kElements);

  T w[kChunks][kVector], x[kChunks][kVector];
  const auto each = [](const Share<int>& mine, int from, int count, auto visit) {
#pragma unroll
    for (int c = from; c < from + count; ++c) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        const int i = mine.first(c) + k;
        if (i < mine.end) visit(c, k, spread(i));
      }
    }
  };
#pragma unroll
  for (int from = 0; from < kChunks; from += kAtOnce) {
    T g[kAtOnce][kVector];
    all.template read<kDirection, kUpdates, true, false, kAtOnce>(mine, from, kAtOnce, h, w + from,
                                                                  x + from, g);
    each(mine, from, kAtOnce, [&](int c, int k, int i) {
      shared_w[i] = w[c][k];
      shared_x[i] = x[c][k];
      shared_g[i] = g[c - from][k];
    });
  }
  __syncthreads();

  if (thread < rows) {
    const Kept<kDirection, T> kept(at, first_row + thread, true);
    const int begin = thread * dim, end = begin + dim;
    Gram<T> gram{};
    for (int i = begin; i < end; ++i) {
      const int k = spread(i);
      add<kDirection>(gram, shared_w[k], shared_x[k], shared_g[k]);
    }
    const auto measured = [&](const auto& of, bool needed) {
      Measured<kDirection, T> products{};
      for (int i = begin; needed && i < end; ++i) {
        const int k = spread(i);
        add(products, shared_w[k], shared_x[k], shared_g[k], of);
      }
      return products;
    };
    const Update<T> u = decide(entry, gram, kept, measured);
    if (kept.s) *global(kept.s) = u.s;
    for (int i = begin; i < end; ++i) {
      const int k = spread(i);
      const T before = shared_w[k], along = shared_x[k];
      shared_w[k] = new_weight<kDirection>(before, along, shared_g[k], u);
      if constexpr (kMakesMoment<kDirection>) {
        shared_x[k] = new_moment<kDirection>(before, along, shared_g[k], u);
      }
    }
  }
  __syncthreads();
  const Share<int> again = anew(mine);
  each(again, 0, kChunks, [&](int c, int k, int i) {
    w[c][k] = shared_w[i];
    if constexpr (kMakesMoment<kDirection>) x[c][k] = shared_x[i];
  });
  all.template put<kDirection, true, false, kChunks>(again, 0, kChunks, w, x);
  __syncthreads();  // before the next tile is brought there
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
