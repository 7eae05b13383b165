// Long segments, in pieces that any block takes: it sums a piece, and updates one whose segment has
// been summed, which the L2 then still holds. Whoever sums the last piece of a segment decides.
#pragma once

#include "agent.cuh"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// What one block wrote and another reads: never from the L1, nor before the barrier it is after.
template <class T>
__device__ __forceinline__ T from_others(const T* written) {
  return *static_cast<const volatile T*>(global(written));
}
template <class T>
__device__ __forceinline__ Update<T> from_others(const Update<T>* u) {
  return {from_others(&u->s),   from_others(&u->a_w), from_others(&u->a_x),
          from_others(&u->a_h), from_others(&u->a_1), from_others(&u->b_w),
          from_others(&u->b_x), from_others(&u->b_h), from_others(&u->radial)};
}

// A thread's share of a segment that is read more than once, kChunks chunks at a time: its
// products.
template <Direction kDirection, Reading kReading, bool kVectors, bool kWhole, int kChunks,
          int kCount, class W, class G, class T, class Index>
__device__ __forceinline__ Gram<double> sum_of(const Elements<W, G>& segment,
                                               const Share<Index>& mine, const Hyper<T>& h) {
  Gram<double> total{};
  for (Index chunk = 0; mine.first(chunk) < mine.end; chunk += kChunks) {
    T w[kChunks][kCount], x[kChunks][kCount], g[kChunks][kCount];
    segment.template read<kDirection, kReading, kVectors, kWhole, kChunks>(mine, chunk, kChunks, h,
                                                                           w, x, g);
    Gram<T> part{};
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) add<kDirection>(part, w[c][k], x[c][k], g[c][k]);
    }
    total += part;
  }
  return total;
}

// And its update.
template <Direction kDirection, bool kVectors, int kChunks, int kCount, class W, class G, class T,
          class Index>
__device__ __forceinline__ void update_of(const Elements<W, G>& segment, const Share<Index>& mine,
                                          const Hyper<T>& h, const Update<T>& u) {
  for (Index chunk = 0; mine.first(chunk) < mine.end; chunk += kChunks) {
    T w[kChunks][kCount], x[kChunks][kCount], g[kChunks][kCount];
    segment.template read<kDirection, kSecondReading<kDirection>, kVectors, true, kChunks>(
        mine, chunk, kChunks, h, w, x, g);
    segment.template write<kDirection, kVectors, true, kChunks>(mine, chunk, kChunks, u, w, x, g);
  }
}

// What the threads of a block are to a bundle of long segments: all to one row, or each lane to a
// column of a strip. `whole` is all that a thread has of its segment, one by one, and `part` its
// share of `length` elements of each segment, as if nothing were before them.
template <bool kVectors>
struct RowBundle {
  static constexpr Tier kTier = kLongRows;
  BlockGroup group;
  int64_t dim, first, segment;
  bool inside = true;

  __device__ RowBundle(const Segments& at, int64_t row)
      : dim(at.dim), first(row * at.dim), segment(row) {}
  __device__ int64_t stride() const { return 1; }
  __device__ Share<int64_t> whole() const { return one_by_one(group, dim); }
  template <int kCount>
  __device__ Share<int> part(int length) const {
    return share_of(kVectors, kCount, group, length);
  }
  // Which of a piece's sums are this thread's to write, or none; which it adds, and of which
  // pieces.
  __device__ int slot() const { return group.leads() ? 0 : -1; }
  __device__ int adds_slot() const { return 0; }
  __device__ int adds_from() const { return group.thread; }
  __device__ int adds_step() const { return kThreads; }
};

struct StripBundle {
  static constexpr Tier kTier = kLongColumns;
  ColumnGroup group;
  int64_t dim, inner, first, segment;
  bool inside;  // else the strip ends before this lane, which sums zeros

  __device__ StripBundle(const Segments& at, int64_t number) : dim(at.dim), inner(at.inner) {
    const Strip strip = strip_at(number, inner);
    const int64_t column = strip.column + group.lane;
    inside = column < inner;
    first = inside ? element_at(dim, inner, strip.outer, 0, column) : 0;
    segment = strip.outer * inner + column;
  }
  __device__ int64_t stride() const { return inner; }
  __device__ Share<int64_t> whole() const { return part<1>(dim); }
  template <int kCount>
  __device__ Share<int64_t> part(int64_t length) const {
    return {group.warp * inner, kWarps * inner, 0, inside ? length * inner : 0};
  }
  __device__ int slot() const { return group.warp == 0 ? group.lane : -1; }
  __device__ int adds_slot() const { return group.lane; }
  __device__ int adds_from() const { return group.warp; }
  __device__ int adds_step() const { return kWarps; }
};

template <Direction kDirection, class W, class G, class Bundle, class T>
__device__ __forceinline__ void decide_bundle(const Entry& entry, const Bundle& bundle,
                                              const double* sums, int64_t pieces,
                                              Update<T>* update) {
  constexpr int kSlots = int(segments_in_bundle(Bundle::kTier));
  const Hyper<T>& h = hyper_of<T>(entry);
  double v[kProducts<kDirection>] = {};
  for (int64_t p = bundle.adds_from(); p < pieces; p += bundle.adds_step()) {
#pragma unroll
    for (int i = 0; i < kProducts<kDirection>; ++i) {
      v[i] += from_others(sums + (p * kSlots + bundle.adds_slot()) * kSums + i);
    }
  }
  const Kept<kDirection, T> kept(entry.at, bundle.segment, bundle.inside);
  bundle.group.sum(v);
  const Gram<T> gram = rounded<T>(packed<kDirection>(v));
  const Elements<W, G> segment(entry, bundle.first);
  const auto measured = [&](const auto& of, bool needed) {
    return measure<kDirection>(bundle.group, segment, bundle.whole(), h, of, needed);
  };
  const Update<T> u = decide(entry, gram, kept, measured);
  if (bundle.slot() < 0) return;
  update[bundle.slot()] = u;
  if (kept.s) *global(kept.s) = u.s;
}

template <Direction kDirection, bool kVectors, class Bundle, class W, class G>
__device__ __forceinline__ void take_turn(const Entry& entry, const Exchange& exchange,
                                          int64_t turn) {
  using T = Arithmetic<W>;
  constexpr Tier kTier = Bundle::kTier;
  constexpr int kCount = kTier == kLongRows ? Elements<W, G>::kVector : 1;
  constexpr int kChunks = chunks_at_once(sizeof(T), kCount, kDirection == kAdam);
  constexpr int kPiece = piece_of(kTier, sizeof(T)), kSlots = int(segments_in_bundle(kTier));
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const int64_t each = ceil_div(at.dim, kPiece);
  const int64_t pieces = bundles_of(kTier, at.outer, at.inner) * each;
  const Turn t = turn_at(turn, pieces, entry.lag);
  const int64_t number = t.piece / each;
  const Bundle bundle(at, number);
  const int64_t before = t.piece % each * kPiece, left = at.dim - before;
  const Elements<W, G> piece(entry, bundle.first + (bundle.inside ? before * bundle.stride() : 0));
  const auto mine = bundle.template part<kCount>(left < kPiece ? int(left) : kPiece);
  Progress& progress = *global(exchange.progress + entry.first_bundle + number);
  auto* const update = global(
      reinterpret_cast<Update<T>*>(exchange.updates + entry.first_segment + number * kSlots));

  if (t.updates) {
    if (threadIdx.x == 0) {
      while (atomicAdd(&progress.decided, 0u) == 0) __nanosleep(100);
      __threadfence();  // for all, who read past the L1 after the barrier
    }
    __syncthreads();
    const Update<T> u = from_others(update + bundle.adds_slot());
    update_of<kDirection, kVectors, kChunks, kCount>(piece, mine, h, u);
    return;
  }
  const Gram<double> gram = sum<kDirection>(
      bundle.group, sum_of<kDirection, kFirstReading<kDirection>, kVectors, true, kChunks, kCount>(
                        piece, mine, h));
  // Not before: it would take registers while much is asked for.
  double* const sums = global(exchange.sums + entry.first_sums + number * each * kSlots * kSums);
  if (bundle.slot() >= 0) {
    double v[kProducts<kDirection>];
    unpack<kDirection>(gram, v);
    double* const own = sums + (t.piece % each * kSlots + bundle.slot()) * kSums;
#pragma unroll
    for (int i = 0; i < kProducts<kDirection>; ++i) own[i] = v[i];
  }
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    __threadfence();  // for all, of whom each may have stored moments
    last = atomicAdd(&progress.summed, 1u) == unsigned(each - 1);
  }
  if (!__syncthreads_or(last)) return;
  __threadfence();
  decide_bundle<kDirection, W, G>(entry, bundle, sums, each, update);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) atomicExch(&progress.decided, 1u);
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
