// The numbers of the CPU engines, as data: chosen by instruction set, width and class, measured, never tuned at run time.
#pragma once
#include "../../recurrence/axes.hpp"
#include "simd.hpp"

namespace weft {
inline namespace WEFT_ISA {

struct recurrence_tile {
  int tokens;          // of a chunk
  int panel;           // vectors of value columns whose part of the state stays in L1
  int read_rows, read_vectors;      // register block of the reads
  int update_keys, update_vectors;  // register block of the updates
  int block, solve_vectors;         // tokens and vectors of the substitution's register block
};

// 16 registers hold 12 accumulators beside the operands; 32 hold 16 in a shape whose loads are fewer.
// A panel is 128 bytes a key, 32 columns of floats (64 bytes where vectors have 16): with 128 keys 16 KB, half of the smallest L1.
template <class R>
constexpr recurrence_tile tile_for(weft::erase erase, int key_dim) {
  constexpr int W = simd<R>::width;
  if constexpr (W * sizeof(R) == 64) {
    const bool small = key_dim == 64 || erase == erase::two_writers;
    return {.tokens = small ? 8 : 16, .panel = 2, .read_rows = 8, .read_vectors = 2, .update_keys = 8, .update_vectors = 2, .block = 8, .solve_vectors = 2};
  } else if (key_dim == 64) {
    return {.tokens = 12, .panel = 4, .read_rows = 6, .read_vectors = 2, .update_keys = 6, .update_vectors = 2, .block = 4, .solve_vectors = 2};
  } else {
    return {.tokens = 12, .panel = 4, .read_rows = 3, .read_vectors = 4, .update_keys = 3, .update_vectors = 4, .block = 4, .solve_vectors = 2};
  }
}

// Tokens between which splits of a scan are bit-identical.
template <class R>
constexpr int token_grid(weft::erase erase, int key_dim) { return tile_for<R>(erase, key_dim).tokens; }

}  // namespace WEFT_ISA
}  // namespace weft
