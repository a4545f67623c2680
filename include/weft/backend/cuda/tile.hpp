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

  // The right operand of the same 16 x 16 numbers [n][k] as the left one [m][k].
  __device__ fragment left_as_right() const { return {{w[0], w[2], w[1], w[3]}}; }
};

// The part of an address that is the lane's own, for four 8 x 8 matrices listed down the rows first, or along the columns
// first; and the lane's place in a block of accumulators. Made once by a warp.
struct lane_parts {
  int lane;
  word down, across;

  // In rows of 128 bytes, swizzled; each row `repeat` times (1 or 2: eight rows of a matrix stay in one span of swizzles).
  static __device__ lane_parts swizzled(int lane, int repeat = 1) {
    return make(lane, [repeat](int r, int u) { return r / repeat * 128 + ((u ^ r / repeat) & 7) * 16; });
  }
  static __device__ lane_parts padded(int lane, int stride) { return make(lane, [stride](int r, int u) { return r * stride + u * 16; }); }

 private:
  template <class F>
  static __device__ lane_parts make(int lane, F&& place) {
    return {lane, static_cast<word>(place(lane % 16, lane / 16)), static_cast<word>(place(lane / 16 * 8 + lane % 8, lane / 8 % 2))};
  }
};

// Rows of any number of columns in panels of 64, each row of a panel 128 bytes. The 16-byte units of a row are swapped by
// its number so that the eight rows of a matrix lie in different banks; the copy engine writes and reads the same order
// (128-byte swizzle). 1024-byte aligned.
struct swizzled_tile {
  word base;
  int rows;
  lane_parts lanes;

  // The lane's row of a 16 x 16 block at (row, column).
  __device__ word at(int row, int column, word lane) const {
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
  lane_parts lanes;

  __device__ word at(int row, int column, word lane) const { return element(row, column) + lane; }
  __device__ word element(int row, int column) const { return base + static_cast<word>(row * stride + column * 2); }
};

// 16 x 16 numbers at (row, column) of a tile, row and column multiples of 16.
// left: the operand x[m][k] of rows m.  right: the operand x[k][n] of a tile that holds [n][k].
// `turned` ones come from a tile that holds the transpose: left from [k][m], right from [k][n].
template <class Tile>
__device__ fragment left(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices(f.w, t.at(row, column, t.lanes.down));
  return f;
}
template <class Tile>
__device__ fragment right(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices(f.w, t.at(row, column, t.lanes.across));
  return f;
}
template <class Tile>
__device__ fragment left_turned(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices_transposed(f.w, t.at(row, column, t.lanes.across));
  return f;
}
template <class Tile>
__device__ fragment right_turned(const Tile& t, int row, int column) {
  fragment f;
  ptx::load_matrices_transposed(f.w, t.at(row, column, t.lanes.down));
  return f;
}
// Where left_turned takes from.
template <class Tile>
__device__ void store_left_turned(const Tile& t, int row, int column, const fragment& f) {
  ptx::store_matrices_transposed(t.at(row, column, t.lanes.across), f.w);
}

// Where left takes from.
template <class Tile>
__device__ void store_left(const Tile& t, int row, int column, const fragment& f) {
  ptx::store_matrices(t.at(row, column, t.lanes.down), f.w);
}

// Adds a number times 0 to the row sums of a fragment: they stay 0 where all numbers are finite.
template <class T>
__device__ void look(word (&seen)[2], const fragment& x) {
#pragma unroll
  for (int w = 0; w < 4; ++w) seen[w % 2] = ptx::add_zero_times<T>(seen[w % 2], x.w[w]);
}
__device__ inline bool wrong(word seen) { return (seen & 0x7fff7fffu) != 0; }

// A 16 x 16 block of accumulators: two 16 x 8 halves.
struct block {
  float half[2][4];

  // this += a b
  template <class T>
  __device__ void add_product(const fragment& a, const fragment& b) {
    ptx::mma<T>(half[0], a.w, b.w[0], b.w[1]);
    ptx::mma<T>(half[1], a.w, b.w[2], b.w[3]);
  }
  friend __device__ block operator+(block a, const block& b) {
    for (int h = 0; h < 2; ++h)
      for (int x = 0; x < 4; ++x) a.half[h][x] += b.half[h][x];
    return a;
  }
  // The numbers of a left operand.
  template <class T>
  static __device__ block of_left(const fragment& f) {
    block b;
    for (int w = 0; w < 4; ++w) {
      const float2 x = ptx::unpack<T>(f.w[w]);
      b.half[w / 2][w % 2 * 2] = x.x, b.half[w / 2][w % 2 * 2 + 1] = x.y;
    }
    return b;
  }
  // The accumulators' layout is that of a left operand.
  template <class T>
  __device__ fragment as_left() const {
    return {{ptx::pack<T>(half[0][0], half[0][1]), ptx::pack<T>(half[0][2], half[0][3]), ptx::pack<T>(half[1][0], half[1][1]), ptx::pack<T>(half[1][2], half[1][3])}};
  }
};

// The row and column within a block of number x of half h.
__device__ inline int block_row(int lane, int x) { return lane / 4 + 8 * (x / 2); }
__device__ inline int block_column(int lane, int h, int x) { return 8 * h + lane % 4 * 2 + x % 2; }

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
