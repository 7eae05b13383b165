// One parameter on one core. Compiled once per instruction set: SPHERE_ISA names the namespace,
// SPHERE_KERNELS the table it exports. Nothing of the standard library's templates is used here,
// because the linker would share them between instruction sets.
#include "step.h"

#include "agent.h"
#include "columns.h"
#if defined(__AVX2__)
#include <cpuid.h>
#endif

namespace sphere_fused {
inline namespace SPHERE_ISA {

template <class T>
Hyper<T> hyper_of(const Work& work) {
  Hyper<T> h = rounded<T>(*work.hyper);
  set_sizes(h, *work.at);
  if (work.verdict) h.verdict = T(work.verdict->number);
  return h;
}

// Move 3 of segment number `index`; `measured` measures on its elements. One function for all
// dtypes of weights, because every rule is in it.
template <Direction kDirection, class T>
[[gnu::noinline]] Update<T> decide_segment(
    const Work& work, int64_t index, const Gram<double>& sums, const Hyper<T>& h,
    Measured<kDirection, T> (*measured)(const Segments& at, int64_t index, const Hyper<T>& h,
                                        const Of<kDirection, T>& of)) {
  const Segments& at = *work.at;
  const bool as_one = work.verdict && work.verdict->number > 1;
  Gram<T> gram = rounded<T>(as_one ? work.verdict->whole : sums);
  if (at.radius) gram.radius = static_cast<const T*>(at.radius)[index];
  T* s = at.s ? static_cast<T*>(at.s) + index : nullptr;
  const Update<T> u =
      decide<kDirection>(at.rule, gram, s ? *s : T(0), h,
                         [&](const Of<kDirection, T>& of, bool needed) -> Measured<kDirection, T> {
                           if (!needed) return {};
                           return measured(at, index, h, of);
                         });
  if (s) *s = u.s;
  return u;
}

// Shorter rows are taken in batches: of so many elements, or so many rows.
inline constexpr int64_t kAloneRow = 512;
inline constexpr int64_t kBatch = 1024;
inline constexpr int64_t kBatchRows = 16;
static_assert(kHead <= kAloneRow);
// Longer rows make Adam's direction twice: the room for it is on the stack.
inline constexpr int64_t kMostRoom = 16384;
template <class W, class G>
Stretch<W, G> block_of(const Segments& at, int64_t row, int64_t block) {
  const int64_t first = block * kBlock, rest = at.dim - first;
  return {at, row * at.dim + first, rest < kBlock ? rest : kBlock};
}

template <class W, class G, Direction kDirection>
struct Parameter {
  using Row = Stretch<W, G>;
  using T = typename Row::T;

  static Measured<kDirection, T> measured(const Segments& at, int64_t index, const Hyper<T>& h,
                                          const Of<kDirection, T>& of) {
    const int64_t outer = index / at.inner, column = index % at.inner;
    const Row segment(at, outer * at.dim * at.inner + column, at.dim);
    return measured_of<kDirection>(segment, at.inner, h, of);
  }

  static Update<T> decided(const Work& work, int64_t index, const Gram<double>& sums,
                           const Hyper<T>& h) {
    return decide_segment<kDirection, T>(work, index, sums, h, measured);
  }

  // A decision is a chain of divisions and roots, as long as the sums of 128 elements: meanwhile
  // the next row begins. Not the whole of it, because the first level of the cache holds one.
  static void rows(const Work& work, int64_t first, int64_t last) {
    const int64_t dim = work.at->dim;
    if (dim < kAloneRow) return short_rows(work, first, last);
    const auto h = hyper_of<T>(work);
    T room[2][kDirection == kAdam ? kMostRoom : 1];  // for a row and the next
    const bool fits = kDirection == kAdam && dim <= kMostRoom;
    const auto row = [&](int64_t r) {
      return Row(*work.at, r * dim, dim, fits ? room[r % 2] : nullptr);
    };
    auto head = head_of<T>(Step<kDirection, W, G>{row(first), h});
    for (; first < last; ++first) {
      const auto gram = gram_of<T>(Step<kDirection, W, G>{row(first), h}, head, kHead);
      const auto u = decided(work, first, gram, h);
      if (first + 1 < last) head = head_of<T>(Step<kDirection, W, G>{row(first + 1), h});
      update_stretch<kDirection>(row(first), h, u);
    }
  }

  // In batches, so that the decisions overlap.
  static void short_rows(const Work& work, int64_t first, int64_t last) {
    const auto h = hyper_of<T>(work);
    const int64_t dim = work.at->dim, fit = kBatch / dim;
    const int64_t batch = fit < kBatchRows ? fit : kBatchRows;
    T room[kDirection == kAdam ? kBatch : 1];
    for (; first < last; first += batch) {
      const int64_t stop = first + batch < last ? first + batch : last;
      const auto row = [&](int64_t r) {
        T* const own = kDirection == kAdam ? room + (r - first) * dim : nullptr;
        return Row(*work.at, r * dim, dim, own);
      };
      Gram<double> grams[kBatchRows];
      Update<T> updates[kBatchRows];
      for (int64_t r = first; r < stop; ++r) {
        grams[r - first] = gram_of<T>(Step<kDirection, W, G>{row(r), h});
      }
      for (int64_t r = first; r < stop; ++r) {
        updates[r - first] = decided(work, r, grams[r - first], h);
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
    const Update<T> u = step<kDirection>(work.at->rule, Gram<T>{}, T(0), h);
    sweep<T>(0, row.n, [&](int64_t i, auto kind) __attribute__((always_inline)) {
      const auto e = read<kDirection, decltype(kind)>(row, i, h);
      store(row.w + i, new_weight<kDirection>(e.w, e.x, e.g, u));
      if (row.m) {
        if constexpr (kDirection == kPrevious) {
          store(row.m + i, new_moment<kDirection>(e.w, e.x, e.g, u));
        } else {
          store(row.m + i, e.m);
        }
      }
      if constexpr (kDirection == kAdam) store(row.v + i, e.v);
    });
  }

  // Segments that are columns.
  static void columns(const Work& work, int64_t first, int64_t last) {
    const auto h = hyper_of<T>(work);
    const int64_t dim = work.at->dim, inner = work.at->inner;
    for (; first < last; ++first) {
      const Strip strip(*work.at, first);
      const Row row(*work.at, strip.start, strip.width);
      Gram<double> sums[kUnitColumns];
      sum_columns<T>(*work.at, strip, Step<kDirection, W, G>{row, h}, sums);
      Update<T> updates[kUnitColumns];
      for (int64_t c = 0; c < strip.width; ++c) {
        updates[c] = decided(work, strip.segment + c, sums[c], h);
      }
      tiles<T>(kUpdateRows, dim, strip.width,
               [&](int64_t top, int64_t bottom, int64_t c, auto kind) {
                 using V = decltype(kind);
                 const auto u = gather<V>(updates + c);
                 for (int64_t d = top; d < bottom; ++d)
                   write<kDirection, V>(row, d * inner + c, h, u);
               });
    }
  }

  static void units(const Work& work, int64_t first, int64_t last) {
    if (work.at->elementwise) elements(work, first, last);
    else if (work.at->inner == 1) rows(work, first, last);
    else columns(work, first, last);
  }

  static Gram<double> block_gram(const Work& work, int64_t row, int64_t block) {
    return gram_of<T>(
        Step<kDirection, W, G>{block_of<W, G>(*work.at, row, block), hyper_of<T>(work)});
  }

  static Update<double> row_update(const Work& work, int64_t row, const Gram<double>& gram) {
    return rounded<double>(decided(work, row, gram, hyper_of<T>(work)));
  }

  static void block_update(const Work& work, int64_t row, int64_t block,
                           const Update<double>& update) {
    update_stretch<kDirection>(block_of<W, G>(*work.at, row, block), hyper_of<T>(work),
                               rounded<T>(update));
  }

  static Gram<double> survey_elements(const Work& work, int64_t first, int64_t last) {
    return gram_of<T>(
        Peek<kDirection, W, G>{Row(*work.at, first, last - first), hyper_of<T>(work)});
  }
};

// What rules say before a step depends on no direction.
template <class W, class G>
struct Types {
  static Survey survey(const Work& work, int64_t first, int64_t last) {
    using Row = Stretch<W, G>;
    using T = typename Row::T;
    const auto h = hyper_of<T>(work);
    const auto exact = hyper_of<double>(work);
    const Segments& at = *work.at;
    const auto sums_of = [&](const Row& row) { return gram_of<T>(Glance<W, G>{row, h}); };
    if (at.inner == 1 && at.dim > kLongRow) {
      const int64_t blocks = (at.dim + kBlock - 1) / kBlock;
      return {sums_of(block_of<W, G>(at, first / blocks, first % blocks)), 0};
    }
    Survey survey{};
    const auto take = [&](const Gram<double>& gram) {
      survey.sums += gram;
      survey.peak = maximum(survey.peak, peak(at.rule, gram, exact));
    };
    for (; first < last; ++first) {
      if (at.inner == 1) {
        take(sums_of(Row(at, first * at.dim, at.dim)));
        continue;
      }
      const Strip strip(at, first);
      Gram<double> sums[kUnitColumns];
      sum_columns<T>(at, strip, Glance<W, G>{Row(at, strip.start, strip.width), h}, sums);
      for (int64_t c = 0; c < strip.width; ++c) take(sums[c]);
    }
    return survey;
  }
};

template <class F>
auto with_types(const Segments& at, F f) {
  const bool wide = at.g_type == kFloat32;
  switch (at.w_type) {
    case kFloat64:
      return wide ? f(Types<double, float>{}) : f(Types<double, double>{});
    case kBFloat16:
      return wide ? f(Types<bfloat16, float>{}) : f(Types<bfloat16, bfloat16>{});
    case kFloat16:
      return wide ? f(Types<float16, float>{}) : f(Types<float16, float16>{});
    default:
      return f(Types<float, float>{});
  }
}

template <class W, class G, class F>
auto with_direction(const Segments& at, Types<W, G>, F f) {
  switch (kRules[at.rule].direction) {
    case kPrevious:
      return f(Parameter<W, G, kPrevious>{});
    case kAdam:
      return f(Parameter<W, G, kAdam>{});
    case kNesterov:
      return f(Parameter<W, G, kNesterov>{});
    case kSign:
      return f(Parameter<W, G, kSign>{});
    default:
      return f(Parameter<W, G, kMoment>{});
  }
}

// Calls f with the Parameter that the dtypes and the rule of `at` ask for.
template <class F>
auto with_parameter(const Segments& at, F f) {
  return with_types(at, [&](auto types) { return with_direction(at, types, f); });
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
    [](const Work& work, int64_t first, int64_t last) {
      return with_types(*work.at, [&](auto types) { return types.survey(work, first, last); });
    },
    [](const Work& work, int64_t first, int64_t last) {
      return with_parameter(*work.at, [&](auto p) { return p.survey_elements(work, first, last); });
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
