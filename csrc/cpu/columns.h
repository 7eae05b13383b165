// Segments that are columns: neighbouring ones are walked down together, as many as a unit has.
#pragma once

#include "agent.h"
#include "step.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

// Elements of a column that are summed in one go: they all meet in one lane, where of a row's every
// eighth does. So many rows of a strip stay in the first level of the cache; to gather updates
// takes as long as to use them for about as many.
inline constexpr int64_t kSumRows = 16;
inline constexpr int64_t kUpdateRows = 64;

struct Strip {
  int64_t segment, start, width;  // its first segment and element, and how many columns it has

  Strip(const Segments& at, int64_t unit) {
    const int64_t per_outer = (at.inner + kUnitColumns - 1) / kUnitColumns;
    const int64_t outer = unit / per_outer, column = unit % per_outer * kUnitColumns;
    segment = outer * at.inner + column, start = outer * at.dim * at.inner + column;
    width = column + kUnitColumns < at.inner ? kUnitColumns : at.inner - column;
  }
};

// Lane c of a vector, or the number itself.
template <class T, class V>
SPHERE_INLINE T lane(V v, int c) {
  if constexpr (std::is_same_v<T, V>) return v;
  else return v[c];
}

template <class T, class V>
SPHERE_INLINE Gram<T> lane(const Gram<V>& a, int c) {
  return {lane<T>(a.ww, c),
          lane<T>(a.wx, c),
          lane<T>(a.xx, c),
          lane<T>(a.wg, c),
          lane<T>(a.gg, c),
          lane<T>(a.gx, c),
          {},
          {},
          lane<T>(a.sw, c),
          lane<T>(a.sx, c),
          {}};
}

// Of one column, or of as many neighbouring ones as a vector has lanes.
template <class V, class T>
SPHERE_INLINE Update<V> gather(const Update<T>* u) {
  const auto field = [u](T Update<T>::* which) {
    if constexpr (std::is_same_v<V, T>) {
      return u->*which;
    } else {
      V v;
      for (int c = 0; c < kLanes<T>; ++c) v[c] = u[c].*which;
      return v;
    }
  };
  using U = Update<T>;
  return {field(&U::s),   field(&U::a_w), field(&U::a_x), field(&U::a_h),   field(&U::a_1),
          field(&U::b_w), field(&U::b_x), field(&U::b_h), field(&U::radial)};
}

// Calls at(top, bottom, column, V{}) for all vectors of neighbouring columns, `rows` at a time.
template <class T, class At>
SPHERE_INLINE void tiles(int64_t rows, int64_t dim, int64_t width, At at) {
  for (int64_t top = 0; top < dim; top += rows) {
    const int64_t bottom = top + rows < dim ? top + rows : dim;
    sweep<T>(0, width, [&](int64_t c, auto kind) __attribute__((always_inline)) {
      at(top, bottom, c, kind);
    });
  }
}

template <class T, class Look>
void sum_columns(const Segments& at, const Strip& strip, const Look look,
                 Gram<double> (&sums)[kUnitColumns]) {
  for (int64_t c = 0; c < strip.width; ++c) sums[c] = {};
  tiles<T>(kSumRows, at.dim, strip.width, [&](int64_t top, int64_t bottom, int64_t c, auto kind) {
    using V = decltype(kind);
    Gram<V> part{};
    for (int64_t d = top; d < bottom; ++d) look(part, d * at.inner + c);
    for (int k = 0; k < int(sizeof(V) / sizeof(T)); ++k) fold(sums[c + k], lane<T>(part, k));
  });
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
