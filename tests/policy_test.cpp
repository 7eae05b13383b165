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
constexpr bool units_cover(int64_t outer, int64_t dim, int64_t inner, int size, int vector,
                           bool clusters = false) {
  const Tier tier = dim == 1 ? kElements : tier_of(dim, inner, size, kMoment, clusters);
  const int64_t units = units_of(tier, outer, dim, inner, size, vector, kMoment);
  if (tier == kColumns) {
    const Strip last = strip_at(units - 1, inner), beyond = strip_at(units, inner);
    return last.outer == outer - 1 && last.column < inner && last.column + kStrip >= inner &&
           beyond.outer == outer && beyond.column == 0;
  }
  if (tier == kClusterRows) return units == outer * blocks_of(dim, size, kMoment);
  if (tier == kLongRows || tier == kLongColumns) {
    const int64_t each = ceil_div(dim, piece_of(tier, size));
    return each * piece_of(tier, size) >= dim && (each - 1) * piece_of(tier, size) < dim &&
           Wide(units) == Wide(2) * bundles_of(tier, outer, inner) * each;
  }
  const Wide per_unit = tier == kElements   ? elements_in_turn(size, vector)
                        : tier == kTileRows ? tile_rows(dim, size)
                                            : kThreads / threads_of(dim, size, kMoment);
  return Wide(units) * per_unit >= outer && Wide(units - 1) * per_unit < outer;
}
static_assert(units_cover(5 * kBillion, 1, 1, 4, 4));
static_assert(units_cover(5 * kBillion + 1, 1, 1, 4, 8));
static_assert(units_cover(3 * kBillion, 9, 1, 4, 4));
static_assert(units_cover(3 * kBillion + 7, 33, 1, 8, 2));
static_assert(units_cover(3 * kBillion + 7, 768, 1, 8, 2));
static_assert(units_cover(kBillion, 8192, 1, 4, 4));
static_assert(units_cover(kBillion, 28'672, 1, 4, 4, true));
static_assert(units_cover(2, 5 * kBillion, 1, 4, 8));
static_assert(units_cover(30'000, 131'072, 1, 4, 8, true));
static_assert(units_cover(3, 70'000, 3 * kBillion, 4, 4));
static_assert(units_cover(3 * kBillion, 2, 33, 4, 4));
// Surveys leave out no row, and have enough to do in a turn.
constexpr bool surveys_cover(int64_t outer, int64_t dim) {
  const int64_t units = units_to_survey(outer, dim, 1), rows = rows_to_survey(dim);
  return Wide(units) * rows >= outer && Wide(units - 1) * rows < outer &&
         Wide(rows) * dim >= 4096 && rows % (kThreads / threads_to_survey(dim)) == 0;
}
static_assert(surveys_cover(3 * kBillion, 1) && surveys_cover(3 * kBillion, 9));
static_assert(surveys_cover(50'257, 768) && surveys_cover(2, 5 * kBillion));
static_assert(units_to_survey(2, 9, 33) == 4);
static_assert(units_of(kColumns, 1, 2, 32, 4, 4, kMoment) == 1);
static_assert(units_of(kColumns, 1, 2, 33, 4, 4, kMoment) == 2);

// Every piece of long segments is summed once and updated once, after all of its segment.
constexpr bool turns_are_in_order(int64_t bundles, int64_t each, int64_t blocks) {
  const int64_t pieces = bundles * each, lag = lag_of(pieces, each, blocks);
  int64_t summed = 0, updated = 0;
  for (int64_t t = 0; t < 2 * pieces; ++t) {
    const Turn turn = turn_at(t, pieces, lag);
    if (turn.piece != (turn.updates ? updated++ : summed++)) return false;
    if (turn.updates && summed < (turn.piece / each + 1) * each) return false;
    // Those before it that are not yet updated fit the L2.
    if (summed - updated > each + blocks + 1) return false;
  }
  return summed == pieces && updated == pieces;
}
static_assert(turns_are_in_order(1, 1, 4) && turns_are_in_order(7, 1, 4));
static_assert(turns_are_in_order(1, 300, 4) && turns_are_in_order(5, 3, 1000));
static_assert(turns_are_in_order(40, 7, 12) && turns_are_in_order(9, 2, 1));
static_assert(turn_at(3 * kBillion, 5 * kBillion, kBillion).piece == 2 * kBillion);
static_assert(turn_at(3 * kBillion + 1, 5 * kBillion, kBillion).updates);
static_assert(turn_at(10 * kBillion - 1, 5 * kBillion, 300).piece == 5 * kBillion - 1);

// What blocks and multiprocessors have: 48 KB of shared memory without asking for more.
constexpr bool shared_memory_suffices() {
  for (int tier = 0; tier < kTiers; ++tier) {
    if (shared_bytes(Tier(tier), 4) > 48 << 10 || shared_bytes(Tier(tier), 8) > 48 << 10)
      return false;
  }
  return true;
}
static_assert(shared_memory_suffices());
// Tiles begin where a vector may, and no two of their elements share a place.
constexpr bool tiles_are_laid_out(int size) {
  for (int dim = 1; dim <= kLongestInTile; ++dim) {
    const int rows = tile_rows(dim, size);
    if (rows % 8 || rows == 0 || rows > kThreads || rows * dim > kTileBytes / size) return false;
  }
  for (int i = 1; i < kTileBytes / size; ++i) {
    if (spread(i) <= spread(i - 1)) return false;
  }
  return spread(kTileBytes / size - 1) < spread(kTileBytes / size);
}
static_assert(tiles_are_laid_out(4) && tiles_are_laid_out(8));

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
constexpr Tier rows_of(int64_t dim, int size = 4, Direction direction = kMoment,
                       bool clusters = true) {
  return tier_of(dim, 1, size, direction, clusters);
}
static_assert(rows_of(1) == kTileRows && rows_of(32) == kTileRows);
static_assert(rows_of(33) == kRows && rows_of(8192) == kRows && rows_of(8193) == kClusterRows);
static_assert(rows_of(65'536) == kClusterRows && rows_of(65'537) == kLongRows);
static_assert(rows_of(8193, 4, kMoment, false) == kLongRows);
static_assert(rows_of(4096, 4, kPrevious) == kRows && rows_of(4097, 4, kPrevious) == kClusterRows);
static_assert(rows_of(32'768, 4, kPrevious) == kClusterRows &&
              rows_of(32'769, 4, kPrevious) == kLongRows);
static_assert(rows_of(1024, 8, kAdam) == kRows && rows_of(1025, 8, kAdam) == kClusterRows);
static_assert(rows_of(4096, 4, kAdam) == kRows && rows_of(4097, 4, kSign) == kClusterRows);
static_assert(rows_of(2048, 8) == kRows && rows_of(2049, 8) == kClusterRows);
static_assert(rows_of(16'384, 8) == kClusterRows && rows_of(16'385, 8) == kLongRows);
static_assert(threads_of(33, 4, kMoment) == 8 && threads_of(256, 4, kMoment) == 8);
static_assert(threads_of(257, 4, kMoment) == 16 && threads_of(1025, 4, kMoment) == 64);
static_assert(threads_of(8192, 4, kMoment) == 256 && threads_of(64, 8, kMoment) == 8);
static_assert(threads_of(129, 4, kPrevious) == 16 && threads_of(2048, 8, kPrevious) == 256);
static_assert(blocks_of(8193, 4, kMoment) == 2 && blocks_of(16'385, 4, kMoment) == 4);
static_assert(blocks_of(32'769, 4, kMoment) == 8 && blocks_of(65'536, 4, kMoment) == 8);
static_assert(tier_of(2, 2, 4, kMoment, true) == kColumns);
static_assert(tier_of(256, 2, 4, kMoment, true) == kColumns);
static_assert(tier_of(257, 2, 4, kMoment, true) == kLongColumns);
static_assert(piece_of(kLongRows, 4) == 4096 && piece_of(kLongRows, 8) == 2048);

}  // namespace
}  // namespace sphere_fused

int main() {
  return 0;
}
