// The products of bf16_product.h by AMX: tiles of 16 x 16 sums, to which an instruction adds the
// products of 16 x 32 and 32 x 16 numbers. Compiled for AMX; called where has_amx().
#include "cresco/kernels/bf16_product.h"

#include <immintrin.h>

namespace cresco::kernels::amx {
namespace {

constexpr std::int64_t kTile = 16, kStepPairs = 16;  // rows and columns; pairs of depth in a step
constexpr std::int64_t kBlock = 2 * kTile;           // four tiles of sums at a time
// Rows whose part of a stays in the second-level cache while all columns use it, and the depth of
// that part, in pairs.
constexpr std::int64_t kGroupRows = 256, kPassPairs = 512;

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The intrinsics don't tell the compiler what memory they read and write.
inline void memory_barrier() { __asm__ volatile("" ::: "memory"); }

// The tiles' shapes, for as long as it lives; then what they were.
class Tiles {
 public:
  Tiles() {
    memory_barrier();
    _tile_storeconfig(&before_);
    memory_barrier();
    static constexpr TileConfig kConfig;
    _tile_loadconfig(&kConfig);
  }
  ~Tiles() {
    memory_barrier();
    if (before_.palette == 0)
      _tile_release();
    else
      _tile_loadconfig(&before_);
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  TileConfig before_;
};

// Up to 32 x 32 numbers of out; those that are not there are zeros in a and in packed b.
struct Block {
  const std::uint16_t* a = nullptr;  // (32, a_row)
  std::int64_t a_row = 0;
  const std::uint32_t* b = nullptr;  // (pairs, 64)
  std::int64_t pairs = 0;
  float* out = nullptr;
  std::int64_t out_row = 0;
  bool adds = false;
};

inline void step(const std::uint16_t* a, std::int64_t a_bytes, const std::uint32_t* b,
                 std::int64_t b_bytes) {
  _tile_loadd(4, a, a_bytes);
  _tile_loadd(6, b, b_bytes);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + kTile, b_bytes);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, reinterpret_cast<const char*>(a) + kTile * a_bytes, a_bytes);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

void make_block(const Block& p) {
  const std::int64_t out_bytes = p.out_row * std::int64_t{sizeof(float)};
  float* const below = p.out + kTile * p.out_row;
  if (p.adds) {
    _tile_loadd(0, p.out, out_bytes);
    _tile_loadd(1, p.out + kTile, out_bytes);
    _tile_loadd(2, below, out_bytes);
    _tile_loadd(3, below + kTile, out_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  constexpr std::int64_t kPanelBytes = kPanelColumns * 4;
  const std::int64_t a_bytes = 2 * p.a_row;
  std::int64_t pair = 0;
  for (; pair + kStepPairs <= p.pairs; pair += kStepPairs)
    step(p.a + 2 * pair, a_bytes, p.b + pair * kPanelColumns, kPanelBytes);
  if (pair < p.pairs) {  // the rest of the depth, filled up with zeros
    alignas(64) std::uint16_t a[kBlock][2 * kStepPairs] = {};
    alignas(64) std::uint32_t b[kStepPairs][kBlock] = {};
    for (std::int64_t r = 0; r < kBlock; ++r)
      __builtin_memcpy(a[r], p.a + r * p.a_row + 2 * pair,
                       static_cast<std::size_t>(4 * (p.pairs - pair)));
    for (std::int64_t k = pair; k < p.pairs; ++k)
      __builtin_memcpy(b[k - pair], p.b + k * kPanelColumns, sizeof b[0]);
    memory_barrier();
    step(a[0], sizeof a[0], b[0], sizeof b[0]);
  }
  _tile_stored(0, p.out, out_bytes);
  _tile_stored(1, p.out + kTile, out_bytes);
  _tile_stored(2, below, out_bytes);
  _tile_stored(3, below + kTile, out_bytes);
}

// Of a block of which only `rows` and `columns` are there.
void make_part(Block p, std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  alignas(64) std::uint16_t a[kBlock * 2 * kPassPairs];
  alignas(64) float out[kBlock][kBlock] = {};
  if (rows < kBlock) {
    for (std::int64_t r = 0; r < kBlock; ++r)
      if (r < rows)
        __builtin_memcpy(a + r * 2 * p.pairs, p.a + r * depth,
                         static_cast<std::size_t>(4 * p.pairs));
      else
        __builtin_memset(a + r * 2 * p.pairs, 0, static_cast<std::size_t>(4 * p.pairs));
    p.a = a;
    p.a_row = 2 * p.pairs;
  }
  float* const to = p.out;
  const std::int64_t to_row = p.out_row;
  const auto bytes = static_cast<std::size_t>(columns) * sizeof(float);
  for (std::int64_t r = 0; p.adds && r < rows; ++r)
    __builtin_memcpy(out[r], to + r * to_row, bytes);
  p.out = out[0];
  p.out_row = kBlock;
  memory_barrier();
  make_block(p);
  for (std::int64_t r = 0; r < rows; ++r) __builtin_memcpy(to + r * to_row, out[r], bytes);
}

}  // namespace

void bf16_product(const Bf16Product& p, std::int64_t begin, std::int64_t end) {
  const Tiles tiles;
  const std::int64_t pairs = p.depth / 2;
  for (std::int64_t group = begin; group < end; group += kGroupRows) {
    const std::int64_t group_end = group + kGroupRows < end ? group + kGroupRows : end;
    for (std::int64_t pair = 0; pair < pairs; pair += kPassPairs)
      for (std::int64_t column = 0; column < p.columns; column += kBlock)
        for (std::int64_t row = group; row < group_end; row += kBlock) {
          const std::int64_t panel = column / kPanelColumns;
          const Block block{
              .a = p.a + row * p.depth + 2 * pair,
              .a_row = p.depth,
              .b = p.packed + (panel * pairs + pair) * kPanelColumns + column % kPanelColumns,
              .pairs = pair + kPassPairs < pairs ? kPassPairs : pairs - pair,
              .out = p.out + row * p.out_stride + column,
              .out_row = p.out_stride,
              .adds = p.adds || pair > 0};
          const std::int64_t rows = group_end - row, columns = p.columns - column;
          if (rows >= kBlock && columns >= kBlock)
            make_block(block);
          else
            make_part(block, rows < kBlock ? rows : kBlock, columns < kBlock ? columns : kBlock,
                      p.depth);
        }
  }
}

}  // namespace cresco::kernels::amx
