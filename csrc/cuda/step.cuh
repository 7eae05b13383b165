// The kernels that step.cu compiles to, once for every pair of dtypes.
#pragma once

#include "policy.h"
#include "table.h"

namespace sphere_fused {

struct Kernels {
  // By direction, whether rows are a multiple of a vector, and tier; null where there is none.
  Kernel at[kDirections][2][kTiers];
};

extern const Kernels kFloat32Kernels, kFloat64Kernels, kFloat64Float32Kernels, kBFloat16Kernels,
    kBFloat16Float32Kernels, kFloat16Kernels, kFloat16Float32Kernels;

}  // namespace sphere_fused
