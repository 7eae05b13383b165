// The functions a rule may use, for float and double, and what else is spelt otherwise on a GPU.
#pragma once

#include "plan.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define SPHERE_INLINE __device__ __forceinline__
#else
#define SPHERE_INLINE inline __attribute__((always_inline))
#endif

namespace sphere_fused {
inline namespace SPHERE_ISA {

#ifdef __CUDACC__
SPHERE_INLINE float sqrt(float a) {
  return ::sqrtf(a);
}
SPHERE_INLINE double sqrt(double a) {
  return ::sqrt(a);
}
// In units of pi: sin and cos reduce large arguments in memory that every thread would need.
SPHERE_INLINE float sin(float a) {
  return ::sinpif(a * 0.318309886183790672f);
}
SPHERE_INLINE double sin(double a) {
  return ::sinpi(a * 0.318309886183790672);
}
SPHERE_INLINE float cos(float a) {
  return ::cospif(a * 0.318309886183790672f);
}
SPHERE_INLINE double cos(double a) {
  return ::cospi(a * 0.318309886183790672);
}
SPHERE_INLINE double power(double base, double exponent) {
  return ::pow(base, exponent);
}
#else
SPHERE_INLINE float sqrt(float a) {
  return __builtin_sqrtf(a);
}
SPHERE_INLINE double sqrt(double a) {
  return __builtin_sqrt(a);
}
SPHERE_INLINE float sin(float a) {
  return __builtin_sinf(a);
}
SPHERE_INLINE double sin(double a) {
  return __builtin_sin(a);
}
SPHERE_INLINE float cos(float a) {
  return __builtin_cosf(a);
}
SPHERE_INLINE double cos(double a) {
  return __builtin_cos(a);
}
SPHERE_INLINE double power(double base, double exponent) {
  return __builtin_pow(base, exponent);
}
#endif

template <class T>
SPHERE_INLINE T where(bool condition, T a, T b) {
  return condition ? a : b;
}

// NaN if either is.
template <class T>
SPHERE_INLINE T maximum(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
SPHERE_INLINE T minimum(T a, T b) {
  return a < b || a != a ? a : b;
}

}  // namespace SPHERE_ISA
}  // namespace sphere_fused
