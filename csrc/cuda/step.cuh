// The kernels that step.cu compiles to, once for every pair of dtypes.
#pragma once

#include "policy.h"
#include "table.h"

namespace sphere_fused {

struct Kernels {
  Kernel at[kTiers][kDirections];
};

extern const Kernels kFloat32Kernels, kFloat64Kernels, kFloat64Float32Kernels, kBFloat16Kernels,
    kBFloat16Float32Kernels, kFloat16Kernels, kFloat16Float32Kernels;

}  // namespace sphere_fused
