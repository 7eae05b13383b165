#pragma once

#include "cuda_runtime.h"

struct __half {
  uint16_t bits;
};

inline float __half2float(__half half) {
  _Float16 value;
  std::memcpy(&value, &half, sizeof value);
  return static_cast<float>(value);
}

inline __half __float2half_rn(float value) {
  if (value != value) return {0x7fff};  // CUDA's NaN
  const auto rounded = static_cast<_Float16>(value);
  __half half;
  std::memcpy(&half, &rounded, sizeof half);
  return half;
}
