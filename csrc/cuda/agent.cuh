// Segments and those who step them: what a thread has of a segment, its sums, the rule's decision
// and the update of its elements.
#pragma once

#include "../hyper.h"
#include "memory.cuh"
#include "reduce.cuh"
#include "table.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <class T>
__device__ __forceinline__ const Hyper<T>& hyper_of(const Entry& entry) {
  if constexpr (std::is_same_v<T, double>) return entry.hyper;
  else return entry.hyper_in_float;
}

// What a thread has of a segment: of chunk c the elements first(c), first(c) + stride, ... before
// `end`.
template <class Index>
struct Share {
  Index start, step, stride, end;
  __device__ __forceinline__ Index first(Index chunk) const { return start + chunk * step; }
};

// The same, but to the compiler something new: it would keep what it has made of the old, addresses
// and comparisons by the dozen, in registers until the second sweep.
template <class Index>
__device__ __forceinline__ Share<Index> anew(Share<Index> mine) {
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

// The elements of a parameter from number `first` on.
template <class W, class G>
struct Elements {
  using T = Arithmetic<W>;
  static constexpr int kVector = vector_of(sizeof(W), sizeof(G));

  W* w;
  const G* g;
  T* m;         // null where none is kept
  T* v;         // of every element; null where none is kept
  bool packed;  // all of them lie where a vector may

  __device__ Elements(const Segments& at, int64_t first, bool second_of_elements = false)
      : w(static_cast<W*>(at.w) + first),
        g(static_cast<const G*>(at.g) + first),
        m(at.m ? static_cast<T*>(at.m) + first : nullptr),
        v(second_of_elements ? static_cast<T*>(at.s) + first : nullptr),
        packed((reinterpret_cast<uintptr_t>(w) | reinterpret_cast<uintptr_t>(g) |
                reinterpret_cast<uintptr_t>(m) | reinterpret_cast<uintptr_t>(v)) %
                   16 ==
               0) {}

  // The first look, at `chunks` chunks from number `chunk` on: asks for all of them at once, and
  // makes x. Moments that x is not are stored. `kWhole`: no vector lies across the end.
  template <Direction kDirection, bool kVectors, bool kWhole, int kChunks, int kCount, class Index>
  __device__ __forceinline__ void read(const Share<Index>& mine, Index chunk, int chunks,
                                       const Hyper<T>& h, T (*w_)[kCount], T (*x)[kCount],
                                       T (*g_)[kCount]) const {
    Raw<W, kCount, kVectors> raw_w[kChunks];
    Raw<G, kCount, kVectors> raw_g[kChunks];
    Raw<T, kCount, kVectors> raw_m[kChunks];
    [[maybe_unused]] Raw<T, kCount, kVectors> raw_v[kChunks];
    const Index m_end = m ? mine.end : 0;
    each_chunk<kVectors, kWhole, kChunks, kCount>(mine, chunk, chunks, [&](auto in_vectors, int c) {
      constexpr bool kInVectors = decltype(in_vectors)::value;
      const Index first = mine.first(chunk + c);
      ask<kInVectors>(w, first, mine.stride, mine.end, raw_w[c]);
      ask<kInVectors>(g, first, mine.stride, mine.end, raw_g[c]);
      ask<kInVectors>(m, first, mine.stride, m_end, raw_m[c]);
      if constexpr (kDirection == kAdam) {
        ask<kInVectors>(v, first, mine.stride, mine.end, raw_v[c]);
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
        x[c][k] = moments<kDirection>(g_[c][k], m_[c][k], v_[c][k], h);
      }
    }
    if constexpr (kDirection == kAdam) {
      each_chunk<kVectors, kWhole, kChunks, kCount>(
          mine, chunk, chunks, [&](auto in_vectors, int c) {
            constexpr bool kInVectors = decltype(in_vectors)::value;
            const Index first = mine.first(chunk + c);
            store<kInVectors>(m, first, mine.stride, m_end, m_[c]);
            store<kInVectors>(v, first, mine.stride, mine.end, v_[c]);
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
        x[c][k] = new_moment<kDirection>(before, x[c][k], g_[c][k], u);
      }
    }
    put<kDirection, kVectors, kWhole, kChunks>(mine, chunk, chunks, w_, x);
  }

  // Stores new weights, and new first moments where `read` has not.
  template <Direction kDirection, bool kVectors, bool kWhole, int kChunks, int kCount, class Index>
  __device__ __forceinline__ void put(const Share<Index>& mine, Index chunk, int chunks,
                                      T (*w_)[kCount], T (*m_)[kCount]) const {
    const Index m_end = m ? mine.end : 0;
    each_chunk<kVectors, kWhole, kChunks, kCount>(mine, chunk, chunks, [&](auto in_vectors, int c) {
      constexpr bool kInVectors = decltype(in_vectors)::value;
      const Index first = mine.first(chunk + c);
      store<kInVectors>(w, first, mine.stride, mine.end, w_[c]);
      if constexpr (kDirection != kAdam) store<kInVectors>(m, first, mine.stride, m_end, m_[c]);
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

// What `decide` asks for. Rarely needed, so the elements are read from memory again, one by one.
template <Direction kDirection, class Group, class W, class G, class T, class Of>
__device__ __forceinline__ Measured<kDirection, T> measure(const Group& group,
                                                           const Elements<W, G>& segment,
                                                           const Share<int64_t>& mine,
                                                           const Hyper<T>& h, const Of& of,
                                                           bool needed) {
  if (!group.any(needed)) return {};
  Measured<kDirection, double> products{};
#pragma unroll 1
  for (int64_t i = 0; mine.first(i) < mine.end; ++i) {
    T w[1][1], x[1][1], g[1][1];
    segment.template read<kDirection, false, false, 1>(mine, i, 1, h, w, x, g);
    add(products, w[0][0], x[0][0], g[0][0], of);
  }
  return rounded<T>(sum(group, products));
}

template <class T>
__device__ __forceinline__ T* state_of(const Segments& at, int64_t segment) {
  return at.s ? static_cast<T*>(at.s) + segment : nullptr;
}

// A row that stays in its group's registers between its two sweeps. A group without a row does
// along what all do.
template <Direction kDirection, bool kVectors, class W, class G, class Group>
__device__ __forceinline__ void step_held_row(const Entry& entry, int64_t index,
                                              const Group& group) {
  using T = Arithmetic<W>;
  constexpr int kVector = Elements<W, G>::kVector;
  constexpr int kChunks = held_by(sizeof(T), kDirection == kPrevious) / kVector;
  constexpr int kBatch = chunks_at_once(sizeof(T), kVector);
  static_assert(kChunks % kBatch == 0);
  const Segments& at = entry.at;
  const Hyper<T>& h = hyper_of<T>(entry);
  const bool inside = index < at.outer;
  const int dim = inside ? int(at.dim) : 0;
  const Elements<W, G> row(at, inside ? index * at.dim : 0);
  const Share<int> mine = share_of(kVectors, kVector, group, dim);
  T* const s = inside ? state_of<T>(at, index) : nullptr;
  const T old_s = s ? *global(s) : T(0);

  T w[kChunks][kVector], x[kChunks][kVector];
  Gram<T> gram{};
#pragma unroll
  for (int c = 0; c < kChunks; c += kBatch) {
    if (c * mine.step >= dim) break;
    const int chunks = kChunks - c < kBatch ? kChunks - c : kBatch;
    T g[kBatch][kVector];
    row.template read<kDirection, kVectors, true, kBatch>(mine, c, chunks, h, w + c, x + c, g);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (b >= chunks) break;
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        add<kDirection>(gram, w[c + b][k], x[c + b][k], g[b][k]);
      }
    }
  }
  gram = sum<kDirection>(group, gram);

  const auto measured = [&](const auto& of, bool needed) -> Measured<kDirection, T> {
    if constexpr (kDirection == kPrevious) {  // no register is left to hold g
      return measure<kDirection>(group, row, one_by_one(group, dim), h, of, needed);
    } else {
      Landing<T> y{};
      if (!group.any(needed)) return y;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        if (c / kBatch * kBatch * mine.step >= dim) break;
#pragma unroll
        for (int k = 0; k < kVector; ++k) add(y, w[c][k], x[c][k], T(0), of);
      }
      return sum(group, y);
    }
  };
  const Update<T> u = decide<kDirection>(at.rule, gram, old_s, h, measured);
  if (s && group.leads()) *global(s) = u.s;

  const Share<int> again = anew(mine);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * again.step >= again.end) break;
    T g[1][kVector] = {};
    if constexpr (kDirection == kPrevious) {
      row.template read_gradient<kVectors>(again, c, h, w[c], g[0]);
    }
    row.template write<kDirection, kVectors, true, 1>(again, c, 1, u, w + c, x + c, g);
  }
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
