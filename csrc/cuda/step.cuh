// The kernels that step.cu compiles to, once for every pair of dtypes.
#pragma once

#include "policy.h"
#include "table.h"

namespace sphere_fused {

// By direction; null where there is none.
struct Kernels {
  Kernel small[kDirections];    // kElements and kTileRows
  Kernel rows[kDirections][2];  // by whether rows are a multiple of a vector
  Kernel clusters[kDirections][2];
  Kernel long_rows[kDirections][2];
  Kernel columns[kDirections];
  Kernel long_columns[kDirections];

  Kernel of(Tier tier, Direction direction, bool vectors) const {
    switch (tier) {
      case kRows:
        return rows[direction][vectors];
      case kClusterRows:
        return clusters[direction][vectors];
      case kLongRows:
        return long_rows[direction][vectors];
      case kColumns:
        return columns[direction];
      case kLongColumns:
        return long_columns[direction];
      default:
        return small[direction];
    }
  }
};

extern const Kernels kFloat32Kernels, kFloat64Kernels, kFloat64Float32Kernels, kBFloat16Kernels,
    kBFloat16Float32Kernels, kFloat16Kernels, kFloat16Float32Kernels;

}  // namespace sphere_fused
