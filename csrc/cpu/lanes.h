// Vectors of 32 bytes, and how each storage type is read into them and written from them.
#pragma once

#include <cstring>
#include <type_traits>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "../vocabulary.h"

namespace sphere_fused {
inline namespace SPHERE_ISA {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <class T>
inline constexpr int kLanes = 32 / sizeof(T);

template <class T, int kCount>
using VectorOf __attribute__((vector_size(sizeof(T) * kCount))) = T;

using Float8 = VectorOf<float, 8>;
using Double4 = VectorOf<double, 4>;
using Bits8 = VectorOf<uint32_t, 8>;
using Half8 = VectorOf<uint16_t, 8>;

template <class T>
using Vector = std::conditional_t<std::is_same_v<T, double>, Double4, Float8>;

template <class To, class From>
SPHERE_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

SPHERE_INLINE Bits8 choose(Bits8 mask, Bits8 a, Bits8 b) {
  return (mask & a) | (~mask & b);
}

// x86-64-v3 has instructions for what compilers make a dozen of.
SPHERE_INLINE Bits8 widen(Half8 half) {
#ifdef __AVX2__
  return Bits8(_mm256_cvtepu16_epi32(__m128i(half)));
#else
  return __builtin_convertvector(half, Bits8);
#endif
}

// Of numbers below 2^16.
SPHERE_INLINE Half8 narrow(Bits8 bits) {
#ifdef __AVX2__
  const __m256i packed = _mm256_packus_epi32(__m256i(bits), __m256i(bits));
  return Half8(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b1000)));
#else
  return __builtin_convertvector(bits, Half8);
#endif
}

SPHERE_INLINE Float8 widen(Half8 half, bfloat16) {
  return same_bits<Float8>(widen(half) << 16);
}

SPHERE_INLINE Half8 narrow(Float8 value, bfloat16) {
  const Bits8 bits = same_bits<Bits8>(value);
  const Bits8 rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
  return narrow((value != value ? bits | 0x400000 : rounded) >> 16);
}

#ifdef __F16C__
SPHERE_INLINE Float8 widen(Half8 half, float16) {
  return Float8(_mm256_cvtph_ps(__m128i(half)));
}

SPHERE_INLINE Half8 narrow(Float8 value, float16) {
  return Half8(_mm256_cvtps_ph(__m256(value), _MM_FROUND_TO_NEAREST_INT));
}
#else
// No float on the way is subnormal: set_flush_denormal would make it zero.
SPHERE_INLINE Float8 widen(Half8 half, float16) {
  const Bits8 bits = widen(half);
  const Bits8 magnitude = bits & 0x7fff;
  // The bits of a half's subnormal, in the low end of 0.5, are worth what they were.
  const Bits8 subnormal = same_bits<Bits8>(same_bits<Float8>(magnitude + (126u << 23)) - 0.5f);
  const Bits8 normal = (magnitude << 13) + (112u << 23);
  const Bits8 infinite = Bits8(magnitude >= (31u << 10)) & 0x7f800000;
  const Bits8 finite = choose(Bits8(magnitude < (1u << 10)), subnormal, normal);
  return same_bits<Float8>(finite | infinite | ((bits & 0x8000) << 16));
}

SPHERE_INLINE Half8 narrow(Float8 value, float16) {
  const Bits8 bits = same_bits<Bits8>(value);
  const Bits8 magnitude = bits & 0x7fffffff;
  const Bits8 normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 leaves a half's subnormal bits, rounded, in the low end of the sum.
  const Bits8 subnormal = same_bits<Bits8>(same_bits<Float8>(magnitude) + 0.5f) - (126u << 23);
  const Bits8 special = choose(Bits8(magnitude > 0x7f800000), Bits8{} + 0x7e00, Bits8{} + 0x7c00);
  const Bits8 small = choose(Bits8(magnitude < (113u << 23)), subnormal, normal);
  const Bits8 result = choose(Bits8(magnitude >= (143u << 23)), special, small);
  return narrow(result | ((bits >> 16) & 0x8000));
}
#endif

// V is a vector or, for what is left at the end of a row, one number.
template <class V, class S>
SPHERE_INLINE V load(const S* p) {
  if constexpr (std::is_same_v<S, bfloat16> || std::is_same_v<S, float16>) {
    Half8 half{};
    std::memcpy(&half, p, sizeof(V) / 2);
    if constexpr (std::is_same_v<V, float>) return widen(half, S{})[0];
    else return widen(half, S{});
  } else if constexpr (std::is_arithmetic_v<V>) {
    return *p;
  } else if constexpr (std::is_same_v<S, float> && std::is_same_v<V, Double4>) {
    VectorOf<float, 4> narrow;
    std::memcpy(&narrow, p, sizeof narrow);
    return __builtin_convertvector(narrow, Double4);
  } else {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
}

template <class V, class S>
SPHERE_INLINE void store(S* p, V v) {
  if constexpr (std::is_same_v<S, bfloat16> || std::is_same_v<S, float16>) {
    Half8 half;
    if constexpr (std::is_same_v<V, float>) half = narrow(Float8{v}, S{});
    else half = narrow(v, S{});
    std::memcpy(p, &half, sizeof(V) / 2);
  } else {
    std::memcpy(p, &v, sizeof v);
  }
}

template <class V>
SPHERE_INLINE V sqrt_lanes(V a) {
  for (unsigned i = 0; i < sizeof a / sizeof a[0]; ++i) a[i] = sqrt(a[i]);
  return a;
}
SPHERE_INLINE Float8 sqrt(Float8 a) {
  return sqrt_lanes(a);
}
SPHERE_INLINE Double4 sqrt(Double4 a) {
  return sqrt_lanes(a);
}

SPHERE_INLINE float sum(float a) {
  return a;
}
SPHERE_INLINE double sum(double a) {
  return a;
}

template <class Half>
struct Halves {
  Half low, high;
};

// A vector's elements in vectors of double.
template <int kCount>
struct InDouble {
  Double4 part[kCount];
};
SPHERE_INLINE InDouble<1> in_double(Double4 a) {
  return {{a}};
}
SPHERE_INLINE InDouble<2> in_double(Float8 a) {
  const auto halves = same_bits<Halves<VectorOf<float, 4>>>(a);
  return {{__builtin_convertvector(halves.low, Double4),
           __builtin_convertvector(halves.high, Double4)}};
}

SPHERE_INLINE float sum(Float8 a) {
  const auto quarters = same_bits<Halves<VectorOf<float, 4>>>(a);
  const VectorOf<float, 4> s = quarters.low + quarters.high;
  return (s[0] + s[2]) + (s[1] + s[3]);
}
SPHERE_INLINE double sum(Double4 a) {
  const auto pairs = same_bits<Halves<VectorOf<double, 2>>>(a);
  const VectorOf<double, 2> s = pairs.low + pairs.high;
  return s[0] + s[1];
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
