// The functions a rule may use, for float and double.
#pragma once

#include "plan.h"

#ifdef __CUDACC__
#define SPHERE_INLINE __host__ __device__ __forceinline__
#else
#define SPHERE_INLINE inline __attribute__((always_inline))
#endif

namespace sphere_fused {
inline namespace SPHERE_ISA {

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
