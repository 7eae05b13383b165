// Index arithmetic of the CUDA kernels far beyond 2^31, at compile time, against 128-bit integers.
#include "../csrc/cuda/policy.h"

namespace sphere_fused {
namespace {

using Wide = __int128;
constexpr int64_t kBillion = 1'000'000'000;

constexpr bool fits(Wide value) {
  return value == Wide(int64_t(value));
}

// Every element lies where the layout says, in order, and nothing overflows.
constexpr bool elements_are_in_order(int64_t outer, int64_t dim, int64_t inner) {
  if (!fits(Wide(outer) * dim * inner)) return false;
  const int64_t o = outer - 1, d = dim - 1, i = inner - 1;
  const Wide last = (Wide(o) * dim + d) * inner + i;
  return last == Wide(outer) * dim * inner - 1 && element_at(dim, inner, o, d, i) == last &&
         (i == 0 || element_at(dim, inner, o, d, i - 1) == last - 1) &&
         (d == 0 || element_at(dim, inner, o, d - 1, i) == last - inner) &&
         (o == 0 || element_at(dim, inner, o - 1, d, i) == last - Wide(dim) * inner);
}
static_assert(elements_are_in_order(1, 3 * kBillion, 1));
static_assert(elements_are_in_order(3 * kBillion, 9, 1));
static_assert(elements_are_in_order(1, 50'000, 100'000));
static_assert(elements_are_in_order(100'000, 50'000, 33));
static_assert(elements_are_in_order(1 << 20, (1 << 12) + 1, 1 << 20));

// The last unit has something to do, and one more would not.
constexpr bool units_cover(int64_t outer, int64_t dim, int64_t inner, int size, int vector) {
  const Tier tier = tier_of(dim, inner, size, false);
  const int64_t units = units_of(tier, outer, inner, vector);
  const Wide per_unit = tier == kElements ? kThreads * vector : tier == kWarpRows ? kWarps : 1;
  if (tier == kColumns) {
    const Strip last = strip_at(units - 1, inner), beyond = strip_at(units, inner);
    return last.outer == outer - 1 && last.column < inner && last.column + kStrip >= inner &&
           beyond.outer == outer && beyond.column == 0;
  }
  return Wide(units) * per_unit >= outer && Wide(units - 1) * per_unit < outer;
}
static_assert(units_cover(5 * kBillion, 1, 1, 4, 4));
static_assert(units_cover(5 * kBillion + 1, 1, 1, 4, 8));
static_assert(units_cover(3 * kBillion, 9, 1, 4, 4));
static_assert(units_cover(3 * kBillion + 7, 768, 1, 8, 2));
static_assert(units_cover(kBillion, 8192, 1, 4, 4));
static_assert(units_cover(2, 5 * kBillion, 1, 4, 8));
static_assert(units_cover(3, 70'000, 3 * kBillion, 4, 4));
static_assert(units_cover(3 * kBillion, 2, 33, 4, 4));
static_assert(units_cover(1, 2, 32, 4, 4) && units_of(kColumns, 1, 32, 4) == 1);
static_assert(units_of(kColumns, 1, 33, 4) == 2);

// The threads of a group divide a chunk among them: nothing twice, nothing left out.
constexpr bool chunk_is_divided(bool vectors, int vector, int threads, int64_t chunk) {
  const Wide start = Wide(chunk) * threads * vector;
  bool taken[kThreads * 8] = {};
  for (int t = 0; t < threads; ++t) {
    for (int k = 0; k < vector; ++k) {
      const Wide at = Wide(first_of(vectors, vector, threads, chunk, t)) +
                      k * stride_of(vectors, threads) - start;
      if (at < 0 || at >= Wide(threads) * vector || taken[int(at)]) return false;
      taken[int(at)] = true;
    }
  }
  return true;
}
static_assert(chunk_is_divided(true, 4, kWarp, 0) && chunk_is_divided(false, 4, kWarp, 0));
static_assert(chunk_is_divided(true, 8, kThreads, 0) && chunk_is_divided(false, 8, kThreads, 3));
static_assert(chunk_is_divided(true, 4, kThreads, 7 * kBillion));
static_assert(chunk_is_divided(false, 2, kThreads, 7 * kBillion));

// Where the tiers end, which the tests of the kernels rely on.
static_assert(tier_of(1, 1, 4, false) == kElements && tier_of(2, 1, 4, false) == kWarpRows);
static_assert(tier_of(768, 1, 4, false) == kWarpRows && tier_of(769, 1, 4, false) == kBlockRows);
static_assert(tier_of(8192, 1, 4, false) == kBlockRows && tier_of(8193, 1, 4, false) == kLongRows);
static_assert(tier_of(512, 1, 4, true) == kWarpRows && tier_of(513, 1, 4, true) == kBlockRows);
static_assert(tier_of(4096, 1, 4, true) == kBlockRows && tier_of(4097, 1, 4, true) == kLongRows);
static_assert(tier_of(256, 1, 8, false) == kWarpRows && tier_of(257, 1, 8, false) == kBlockRows);
static_assert(tier_of(2048, 1, 8, false) == kBlockRows && tier_of(2049, 1, 8, false) == kLongRows);
static_assert(tier_of(2, 2, 4, false) == kColumns);

}  // namespace
}  // namespace sphere_fused

int main() {
  return 0;
}
