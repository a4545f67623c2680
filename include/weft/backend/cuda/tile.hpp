// Tiles of 16-bit numbers in shared memory, and the operands of a warp's matrix products that come from them.
#pragma once
#include "ptx.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

using ptx::word;

// A 16 x 16 operand. As a left operand of mma all four words; as a right one, two words for each of two 16 x 8 halves.
struct fragment {
  word w[4];
};

// Rows of any number of columns in panels of 64, each row of a panel 128 bytes. The 16-byte units of a row are swapped by
// its number so that the eight rows of a matrix lie in different banks; the copy engine writes and reads the same order
// (128-byte swizzle). 1024-byte aligned.
struct swizzled_tile {
  word base;
  int rows;

  // 16 bytes at row `row + r`, column `column + 8 u`; row and column are multiples of 16, r below 16, u 0 or 1. The part of
  // the lane (r, u) is apart, so that it is computed once.
  __device__ word address(int row, int column, int r, int u) const {
    const word lane = static_cast<word>(r * 128 + ((u ^ r) & 7) * 16);
    return base + static_cast<word>(column / 64 * rows * 128 + row * 128) + (lane ^ static_cast<word>(column % 64 * 2));
  }
  // The unit of 8 columns at any row.
  __device__ word unit(int row, int number) const {
    return base + static_cast<word>(number / 8 * rows * 128 + row * 128 + ((number ^ row) & 7) * 16);
  }
};

// Rows of `stride` bytes, an odd multiple of 16: no swizzle.
struct padded_tile {
  word base;
  int stride;

  __device__ word address(int row, int column, int r, int u) const {
    return base + static_cast<word>(row * stride + column * 2) + static_cast<word>(r * stride + u * 16);
  }
  __device__ word element(int row, int column) const { return base + static_cast<word>(row * stride + column * 2); }
};

// The lane's row among 16 and its unit among 2, for matrices listed down the rows first, or along the columns first.
template <class Tile>
__device__ word down(const Tile& t, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return t.address(row, column, lane % 16, lane / 16);
}
template <class Tile>
__device__ word across(const Tile& t, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return t.address(row, column, lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

// 16 x 16 numbers at (row, column) of a tile, row and column multiples of 16.
// left: the operand x[m][k] of rows m.  right: the operand x[k][n] of a tile that holds [n][k].
// `turned` ones come from a tile that holds the transpose: left from [k][m], right from [k][n].
template <class Tile>
__device__ fragment left(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices(f.w, down(t, row, column));
  return f;
}
template <class Tile>
__device__ fragment right(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices(f.w, across(t, row, column));
  return f;
}
template <class Tile>
__device__ fragment left_turned(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices_transposed(f.w, across(t, row, column));
  return f;
}
template <class Tile>
__device__ fragment right_turned(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices_transposed(f.w, down(t, row, column));
  return f;
}
// Where left_turned takes from.
template <class Tile>
__device__ void store_left_turned(const Tile& t, int row, int column, const fragment& f) {
  ptx::store_matrices_transposed(across(t, row, column), f.w);
}

// A 16 x 16 block of accumulators: two 16 x 8 halves.
struct block {
  float half[2][4];

  // this += a b
  template <class T>
  __device__ void add_product(const fragment& a, const fragment& b) {
    ptx::mma<T>(half[0], a.w, b.w[0], b.w[1]);
    ptx::mma<T>(half[1], a.w, b.w[2], b.w[3]);
  }
  // The accumulators' layout is that of a left operand.
  template <class T>
  __device__ fragment as_left() const {
    return {{ptx::pack<T>(half[0][0], half[0][1]), ptx::pack<T>(half[0][2], half[0][3]), ptx::pack<T>(half[1][0], half[1][1]), ptx::pack<T>(half[1][2], half[1][3])}};
  }
};

// The row and column within a block of number x of half h of this lane.
__device__ inline int block_row(int x) { return static_cast<int>(threadIdx.x % 32 / 4) + 8 * (x / 2); }
__device__ inline int block_column(int h, int x) { return 8 * h + static_cast<int>(threadIdx.x % 4) * 2 + x % 2; }

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
