// One parameter on one core. Compiled once per instruction set: SPHERE_ISA names the namespace,
// SPHERE_KERNELS the table it exports. Nothing of the standard library's templates is used here,
// because the linker would share them between instruction sets.
#include "step.h"

#include "agent.h"
#if defined(__AVX2__)
#include <cpuid.h>
#endif

namespace sphere_fused {
inline namespace SPHERE_ISA {

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

template <class T, int kCount>
SPHERE_INLINE auto gather(const Update<T> (&u)[kCount], T Update<T>::* field) {
  if constexpr (kCount == 1) {
    return u[0].*field;
  } else {
    Vector<T> v;
    for (int c = 0; c < kCount; ++c) v[c] = u[c].*field;
    return v;
  }
}

template <class T>
Hyper<T> hyper_of(const Work& work) {
  Hyper<T> h = rounded<T>(*work.hyper);
  set_sizes(h, *work.at);
  return h;
}

// Shorter rows are taken in batches: of so many elements, or so many rows.
inline constexpr int64_t kAloneRow = 512;
inline constexpr int64_t kBatch = 1024;
inline constexpr int64_t kBatchRows = 16;
static_assert(kHead <= kAloneRow);

template <class W, class G, Direction kDirection>
struct Parameter {
  using Row = Stretch<W, G>;
  using T = typename Row::T;

  // `whole` is the segment number `index`, its elements `stride` apart.
  static Update<T> decide_segment(const Work& work, int64_t index, const Row& whole, int64_t stride,
                                  const Gram<double>& gram, const Hyper<T>& h) {
    T* s = work.at->s ? static_cast<T*>(work.at->s) + index : nullptr;
    const Update<T> u =
        decide<kDirection>(work.at->rule, rounded<T>(gram), s ? *s : T(0), h,
                           [&](const auto& of, bool needed) -> Measured<kDirection, T> {
                             if (!needed) return {};
                             return measured_of<kDirection>(whole, stride, h, of);
                           });
    if (s) *s = u.s;
    return u;
  }

  // A decision is a chain of divisions and roots, as long as the sums of 128 elements: meanwhile
  // the next row begins. Not the whole of it, because the first level of the cache holds one.
  static void rows(const Work& work, int64_t first, int64_t last) {
    const int64_t dim = work.at->dim;
    if (dim < kAloneRow) return short_rows(work, first, last);
    const auto h = hyper_of<T>(work);
    const auto row = [&](int64_t r) { return Row(*work.at, r * dim, dim); };
    auto head = head_of<kDirection>(row(first), h);
    for (; first < last; ++first) {
      const auto gram = gram_of<kDirection>(row(first), h, head, kHead);
      const auto u = decide_segment(work, first, row(first), 1, gram, h);
      if (first + 1 < last) head = head_of<kDirection>(row(first + 1), h);
      update_stretch<kDirection>(row(first), h, u);
    }
  }

  // In batches, so that the decisions overlap.
  static void short_rows(const Work& work, int64_t first, int64_t last) {
    const auto h = hyper_of<T>(work);
    const int64_t dim = work.at->dim, fit = kBatch / dim;
    const int64_t batch = fit < kBatchRows ? fit : kBatchRows;
    const auto row = [&](int64_t r) { return Row(*work.at, r * dim, dim); };
    for (; first < last; first += batch) {
      const int64_t stop = first + batch < last ? first + batch : last;
      Gram<double> grams[kBatchRows];
      Update<T> updates[kBatchRows];
      for (int64_t r = first; r < stop; ++r) grams[r - first] = gram_of<kDirection>(row(r), h);
      for (int64_t r = first; r < stop; ++r) {
        updates[r - first] = decide_segment(work, r, row(r), 1, grams[r - first], h);
      }
      for (int64_t r = first; r < stop; ++r) {
        update_stretch<kDirection>(row(r), h, updates[r - first]);
      }
    }
  }

  // No inner products: nothing is shared between elements.
  static void elements(const Work& work, int64_t first, int64_t last) {
    const auto h = hyper_of<T>(work);
    const int64_t n = work.at->outer, start = first * kUnitElements;
    const int64_t stop = last * kUnitElements < n ? last * kUnitElements : n;
    const Row row(*work.at, start, stop - start);
    const Update<T> u = step(work.at->rule, Gram<T>{}, T(0), h);
    sweep<T>(0, row.n, [&](int64_t i, auto kind) __attribute__((always_inline)) {
      using V = decltype(kind);
      const V w = load<V>(row.w + i);
      const V g = gradient(load<V>(row.g + i), w, h);
      V m = row.m ? load<V>(row.m + i) : V{};
      V v = kDirection == kAdam ? load<V>(row.v + i) : V{};
      const V x = moments<kDirection>(g, m, v, h);
      store(row.w + i, new_weight<kDirection>(w, x, g, u));
      if (row.m) store(row.m + i, m);
      if constexpr (kDirection == kAdam) store(row.v + i, v);
    });
  }

  // Segments that are columns: V holds neighbouring ones, or one, and walks down.
  template <class V>
  static void columns(const Work& work, int64_t outer, int64_t column, const Hyper<T>& h) {
    constexpr int kCount = sizeof(V) / sizeof(T);
    // All of these meet in one lane, where of a row's every eighth does.
    constexpr int64_t kPartialRows = 16;
    const int64_t dim = work.at->dim, inner = work.at->inner;
    const int64_t start = outer * dim * inner + column;
    const Row strip(*work.at, start, dim);
    Gram<double> totals[kCount] = {};
    for (int64_t first = 0; first < dim; first += kPartialRows) {
      const int64_t last = first + kPartialRows < dim ? first + kPartialRows : dim;
      Gram<V> part{};
      for (int64_t d = first; d < last; ++d) {
        const Loaded<V> e = read<kDirection, V>(strip, d * inner, h);
        add<kDirection>(part, e.w, e.x, e.g);
      }
      for (int c = 0; c < kCount; ++c) fold(totals[c], lane<T>(part, c));
    }
    Update<T> one[kCount];
    for (int c = 0; c < kCount; ++c) {
      one[c] = decide_segment(work, outer * inner + column + c, Row(*work.at, start + c, dim),
                              inner, totals[c], h);
    }
    const Update<V> u = {gather(one, &Update<T>::s),   gather(one, &Update<T>::a_w),
                         gather(one, &Update<T>::a_x), gather(one, &Update<T>::a_h),
                         gather(one, &Update<T>::a_1), gather(one, &Update<T>::b_w), gather(one, &Update<T>::b_x),
                         gather(one, &Update<T>::b_h), gather(one, &Update<T>::radial)};
    for (int64_t d = 0; d < dim; ++d) write<kDirection, V>(strip, d * inner, h, u);
  }

  static void strips(const Work& work, int64_t first, int64_t last) {
    const auto h = hyper_of<T>(work);
    const int64_t inner = work.at->inner, per_outer = (inner + kUnitColumns - 1) / kUnitColumns;
    for (int64_t strip = first; strip < last; ++strip) {
      const int64_t outer = strip / per_outer, start = strip % per_outer * kUnitColumns;
      const int64_t stop = start + kUnitColumns < inner ? start + kUnitColumns : inner;
      sweep<T>(start, stop,
               [&](int64_t c, auto kind) { columns<decltype(kind)>(work, outer, c, h); });
    }
  }

  static void units(const Work& work, int64_t first, int64_t last) {
    if (work.at->elementwise) return elements(work, first, last);
    if constexpr (kDirection != kAdam) {  // so far Adam's direction is only for single elements
      if (work.at->inner == 1) rows(work, first, last);
      else strips(work, first, last);
    }
  }

  static Row block_of(const Segments& at, int64_t row, int64_t block) {
    const int64_t first = block * kBlock, rest = at.dim - first;
    return Row(at, row * at.dim + first, rest < kBlock ? rest : kBlock);
  }

  static Gram<double> block_gram(const Work& work, int64_t row, int64_t block) {
    return gram_of<kDirection>(block_of(*work.at, row, block), hyper_of<T>(work));
  }

  static Update<double> row_update(const Work& work, int64_t row, const Gram<double>& gram) {
    const Row whole(*work.at, row * work.at->dim, work.at->dim);
    return rounded<double>(decide_segment(work, row, whole, 1, gram, hyper_of<T>(work)));
  }

  static void block_update(const Work& work, int64_t row, int64_t block,
                           const Update<double>& update) {
    update_stretch<kDirection>(block_of(*work.at, row, block), hyper_of<T>(work),
                               rounded<T>(update));
  }
};

// Calls f with the Parameter that the dtypes and the rule of `at` ask for.
template <class W, class G, class F>
auto with_direction(const Segments& at, F f) {
  switch (kRules[at.rule].direction) {
    case kAdam:
      return f(Parameter<W, G, kAdam>{});
    case kPrevious:
      return f(Parameter<W, G, kPrevious>{});
    default:
      return f(Parameter<W, G, kMoment>{});
  }
}

template <class F>
auto with_parameter(const Segments& at, F f) {
  const bool wide = at.g_type == kFloat32;
  switch (at.w_type) {
    case kFloat64:
      return wide ? with_direction<double, float>(at, f) : with_direction<double, double>(at, f);
    case kBFloat16:
      return wide ? with_direction<bfloat16, float>(at, f)
                  : with_direction<bfloat16, bfloat16>(at, f);
    case kFloat16:
      return wide ? with_direction<float16, float>(at, f) : with_direction<float16, float16>(at, f);
    default:
      return with_direction<float, float>(at, f);
  }
}

#if defined(__AVX2__)
// For which clang 14 has no name in __builtin_cpu_supports.
bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool runs_here() {
#if defined(__AVX2__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && has_f16c();
#else
  return true;
#endif
}

}  // namespace SPHERE_ISA

#define SPHERE_TEXT_OF(name) #name
#define SPHERE_TEXT(name) SPHERE_TEXT_OF(name)

extern const Kernels SPHERE_KERNELS = {
    SPHERE_TEXT(SPHERE_ISA),
    runs_here,
    [](const Work& work, int64_t first, int64_t last) {
      with_parameter(*work.at, [&](auto p) { p.units(work, first, last); });
    },
    [](const Work& work, int64_t row, int64_t block) {
      return with_parameter(*work.at, [&](auto p) { return p.block_gram(work, row, block); });
    },
    [](const Work& work, int64_t row, const Gram<double>& gram) {
      return with_parameter(*work.at, [&](auto p) { return p.row_update(work, row, gram); });
    },
    [](const Work& work, int64_t row, int64_t block, const Update<double>& update) {
      with_parameter(*work.at, [&](auto p) { p.block_update(work, row, block, update); });
    },
    [](float* w, const float* g, float* m, int64_t n) {
      sweep<float>(0, n, [&](int64_t i, auto kind) __attribute__((always_inline)) {
        using V = decltype(kind);
        const V x = 0.9f * load<V>(m + i) + 0.1f * load<V>(g + i);
        store(m + i, x);
        store(w + i, load<V>(w + i) - 1e-3f * x);
      });
    },
};

}  // namespace sphere_fused
