// What a thread has of a segment: reading it, asking for much before looking at any, and writing
// it.
#pragma once

#include "memory.cuh"
#include "reduce.cuh"
#include "table.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// What a thread has of a segment: of chunk c the elements first(c), first(c) + stride, ... before
// `end`.
template <class Index>
struct Share {
  Index start, step, stride, end;
  __device__ __forceinline__ Index first(Index chunk) const { return start + chunk * step; }
};

// The same, but to the compiler something new: it would keep what it has made of the old, addresses
// and comparisons by the dozen, in registers until the second sweep.
__device__ __forceinline__ Share<int> anew(Share<int> mine) {
  asm volatile("" : "+r"(mine.start), "+r"(mine.end));
  return mine;
}

// The thread's share of a row that a group holds or walks along.
template <class Index, class Group>
__device__ __forceinline__ Share<Index> share_of(bool vectors, int vector, const Group& group,
                                                 Index end) {
  return {first_of<Index>(vectors, vector, group.size(), 0, group.thread),
          Index(group.size()) * vector, stride_of(vectors, group.size()), end};
}
// Its elements one by one, for `measure`.
template <class Group>
__device__ __forceinline__ Share<int64_t> one_by_one(const Group& group, int64_t end) {
  return {group.thread, group.size(), 1, end};
}

// What a reading finds of the moments that move 4 leaves alone, and does with them.
enum Reading : int8_t {
  kLooks,    // finds the old ones, which stay
  kUpdates,  // finds the old ones and stores the new
  kUpdated   // finds the new ones
};
// Of a segment that is read twice, and of what is measured between. Adam's moments are stored at
// once, so that the second reading needs no gradient. The others' takes no root to make again.
template <Direction kDirection>
inline constexpr Reading kFirstReading = kDirection == kAdam ? kUpdates : kLooks;
template <Direction kDirection>
inline constexpr Reading kReadingBetween = kDirection == kAdam ? kUpdated : kLooks;
template <Direction kDirection>
inline constexpr Reading kSecondReading = kDirection == kAdam ? kUpdated : kUpdates;

// The elements of a parameter from number `first` on.
template <class W, class G>
struct Elements {
  using T = Arithmetic<W>;
  static constexpr int kVector = vector_of(sizeof(W), sizeof(G));

  W* w;
  const G* g;
  T* m;         // null where none is kept
  T* v;         // null where none is kept
  bool signs;   // x is the sign of what kNesterov makes
  bool packed;  // all of them lie where a vector may

  // Without moments where only w and g are looked at.
  __device__ Elements(const Entry& entry, int64_t first, bool with_moments = true)
      : w(static_cast<W*>(entry.at.w) + first),
        g(static_cast<const G*>(entry.at.g) + first),
        m(with_moments && entry.at.m ? static_cast<T*>(entry.at.m) + first : nullptr),
        v(with_moments && entry.at.v ? static_cast<T*>(entry.at.v) + first : nullptr),
        signs(entry.direction == kSign),
        packed((reinterpret_cast<uintptr_t>(w) | reinterpret_cast<uintptr_t>(g) |
                reinterpret_cast<uintptr_t>(m) | reinterpret_cast<uintptr_t>(v)) %
                   16 ==
               0) {}

  // Reads `chunks` chunks from number `chunk` on: asks for all of them at once, and makes x, which
  // is 0 beyond the end. `kWhole`: no vector lies across the end.
  template <Direction kDirection, Reading kReading, bool kVectors, bool kWhole, int kChunks,
            int kCount, class Index>
  __device__ __forceinline__ void read(const Share<Index>& mine, Index chunk, int chunks,
                                       const Hyper<T>& h, T (*w_)[kCount], T (*x)[kCount],
                                       T (*g_)[kCount]) const {
    Raw<W, kCount, kVectors> raw_w[kChunks];
    Raw<G, kCount, kVectors> raw_g[kChunks];
    Raw<T, kCount, kVectors> raw_m[kChunks];
    [[maybe_unused]] Raw<T, kCount, kVectors> raw_v[kChunks];
    const Index m_end = m ? mine.end : 0;
    const bool needs_g = kReading != kUpdated || h.x_g != T(0);
    const Index g_end = needs_g ? mine.end : 0;
    each_chunk<kVectors, kWhole, kChunks, kCount>(mine, chunk, chunks, [&](auto in_vectors, int c) {
      constexpr bool kInVectors = decltype(in_vectors)::value;
      const Index first = mine.first(chunk + c);
      ask<kInVectors>(w, first, mine.stride, mine.end, raw_w[c]);
      ask<kInVectors>(g, first, mine.stride, g_end, raw_g[c]);
      ask<kInVectors>(m, first, mine.stride, m_end, raw_m[c]);
      if constexpr (kDirection == kAdam) {
        ask<kInVectors>(v, first, mine.stride, mine.end, raw_v[c], 1);  // eps may be 0
      }
    });
    T m_[kChunks][kCount], v_[kChunks][kCount] = {};
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c >= chunks) break;
      take(raw_w[c], w_[c]);
      take(raw_g[c], g_[c]);
      take(raw_m[c], m_[c]);
      if constexpr (kDirection == kAdam) take(raw_v[c], v_[c]);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        g_[c][k] = gradient(g_[c][k], w_[c][k], h);
        if constexpr (kReading == kUpdated) {
          x[c][k] = adam_direction(g_[c][k], m_[c][k], v_[c][k], h);
        } else {
          x[c][k] = moments<kDirection>(g_[c][k], m_[c][k], v_[c][k], h);
        }
        if constexpr (kDirection == kNesterov) x[c][k] = signs ? sign(x[c][k]) : x[c][k];
      }
    }
    if constexpr (kReading == kUpdates && !kMakesMoment<kDirection>) {
      each_chunk<kVectors, kWhole, kChunks, kCount>(
          mine, chunk, chunks, [&](auto in_vectors, int c) {
            constexpr bool kInVectors = decltype(in_vectors)::value;
            const Index first = mine.first(chunk + c);
            store<kInVectors>(m, first, mine.stride, m_end, m_[c]);
            if constexpr (kDirection == kAdam) {
              store<kInVectors>(v, first, mine.stride, mine.end, v_[c]);
            }
          });
    }
  }

  // The gradient again, of one chunk.
  template <bool kVectors, int kCount, class Index>
  __device__ __forceinline__ void read_gradient(const Share<Index>& mine, Index chunk,
                                                const Hyper<T>& h, const T (&w_)[kCount],
                                                T (&g_)[kCount]) const {
    Raw<G, kCount, kVectors> raw;
    if (kVectors && packed) {
      ask<kVectors>(g, mine.first(chunk), mine.stride, mine.end, raw);
    } else {
      ask<false>(g, mine.first(chunk), mine.stride, mine.end, raw);
    }
    take(raw, g_);
#pragma unroll
    for (int k = 0; k < kCount; ++k) g_[k] = gradient(g_[k], w_[k], h);
  }

  // Move 4, where `read` has read.
  template <Direction kDirection, bool kVectors, bool kWhole, int kChunks, int kCount, class Index>
  __device__ __forceinline__ void write(const Share<Index>& mine, Index chunk, int chunks,
                                        const Update<T>& u, T (*w_)[kCount], T (*x)[kCount],
                                        T (*g_)[kCount]) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c >= chunks) break;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const T before = w_[c][k];
        w_[c][k] = new_weight<kDirection>(before, x[c][k], g_[c][k], u);
        if constexpr (kMakesMoment<kDirection>) {
          x[c][k] = new_moment<kDirection>(before, x[c][k], g_[c][k], u);
        }
      }
    }
    put<kDirection, kVectors, kWhole, kChunks>(mine, chunk, chunks, w_, x);
  }

  // Stores new weights, and the first moments that move 4 has made.
  template <Direction kDirection, bool kVectors, bool kWhole, int kChunks, int kCount, class Index>
  __device__ __forceinline__ void put(const Share<Index>& mine, Index chunk, int chunks,
                                      T (*w_)[kCount], T (*m_)[kCount]) const {
    const Index m_end = m ? mine.end : 0;
    each_chunk<kVectors, kWhole, kChunks, kCount>(mine, chunk, chunks, [&](auto in_vectors, int c) {
      constexpr bool kInVectors = decltype(in_vectors)::value;
      const Index first = mine.first(chunk + c);
      store<kInVectors>(w, first, mine.stride, mine.end, w_[c]);
      if constexpr (kMakesMoment<kDirection>) {
        store<kInVectors>(m, first, mine.stride, m_end, m_[c]);
      }
    });
  }

 private:
  // Calls visit(true_type, c) for every chunk where all vectors of this thread can be moved as
  // such, visit(false_type, c) elsewhere.
  template <bool kVectors, bool kWhole, int kChunks, int kCount, class Index, class Visit>
  __device__ __forceinline__ void each_chunk(const Share<Index>& mine, Index chunk, int chunks,
                                             const Visit& visit) const {
    const auto all = [&](auto in_vectors) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (c >= chunks) break;
        visit(in_vectors, c);
      }
    };
    bool cut = false;
    if constexpr (!kWhole) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const Index first = mine.first(chunk + c);
        cut |= c < chunks && first < mine.end && first + kCount > mine.end;
      }
    }
    if (kVectors && packed && !cut) all(std::bool_constant<kVectors>{});
    else all(std::false_type{});
  }
};

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
