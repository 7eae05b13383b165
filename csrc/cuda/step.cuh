// The kernels that step.cu compiles to, once for every pair of dtypes.
#pragma once

#include "policy.h"
#include "table.h"

namespace sphere_fused {

// A direction's kernels are those of kNesterov where it is kSign.
inline constexpr int kCompiledDirections = kSign;
SPHERE_ANYWHERE Direction compiled_as(Direction direction) {
  return direction == kSign ? kNesterov : direction;
}

// By direction; null where there is none.
struct Kernels {
  Kernel surveys;  // of any direction
  Kernel surveys_more[kCompiledDirections];
  Kernel small[kCompiledDirections];    // kElements and kTileRows
  Kernel rows[kCompiledDirections][2];  // by whether rows are a multiple of a vector
  Kernel clusters[kCompiledDirections][2];
  Kernel long_rows[kCompiledDirections][2];
  Kernel columns[kCompiledDirections];
  Kernel long_columns[kCompiledDirections];

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
