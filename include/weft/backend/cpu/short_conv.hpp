// A causal depthwise convolution on the CPU: work is split over sequences and blocks of channels; in a block, token after
// token, so that memory is read and written in order and the earlier taps' rows still lie in L1.
#pragma once
#include <algorithm>
#include <span>
#include <tuple>
#include <type_traits>

#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

inline constexpr index conv_block = 512;  // channels: the rows and taps of a block fill half of the smallest L1

// Tokens [begin, end) of a row of a batch, and the inputs before them.
template <class T>
struct conv_sequence {
  const T* x;         // the first token
  index stride;       // between tokens
  T* kept;            // the taps - 1 inputs before it [taps - 1, channels], oldest first
  index taps, channels, time;

  // Input t, from the kept ones before 0.
  WEFT_INLINE const T* row(index t) const { return t >= 0 ? x + t * stride : kept + (taps - 1 + t) * channels; }
  // Keeps the last taps - 1 inputs of the channels [first, first + count).
  void keep_last(index first, index count) const {
    for (index i = 0; time > 0 && i < taps - 1; ++i)  // ascending: a row moves only towards the front
      std::copy_n(row(time - taps + 1 + i) + first, count, kept + i * channels + first);
  }
};

// o[t] = finish(bias + sum of the last taps inputs) for channels [first, first + count); weight [taps][conv_block] and
// bias [conv_block] start at `first`. W taps at compile time, or 0 for s.taps.
template <int W, class T, class Out, class Finish>
void conv_tokens(const conv_sequence<T>& s, const accumulate_t<T>* weight, const accumulate_t<T>* bias, Out* o, index o_stride, index first,
                 index count, Finish&& finish) {
  using R = accumulate_t<T>;
  for (index t = 0; t < s.time; ++t) {
    const T* row[W > 0 ? W : 1];
    if constexpr (W > 0)
      for (index j = 0; j < W; ++j) row[j] = s.row(t - W + 1 + j) + first;
    for_lanes<R>(count, [&](index c, auto lane) {
      simd<R> y = simd<R>::load(bias + c);
      if constexpr (W > 0) {
        WEFT_UNROLL for (int j = 0; j < W; ++j) y = fma(simd<R>::load(weight + j * conv_block + c), get(row[j] + c, lane), y);
      } else {
        for (index j = 0; j < s.taps; ++j) y = fma(simd<R>::load(weight + j * conv_block + c), get(s.row(t - s.taps + 1 + j) + first + c, lane), y);
      }
      put(o + t * o_stride + first + c, finish(y), lane);
    });
  }
}

// x [B, T, D], weight [D, W], bias [D] or null, kept [N, W - 1, D] -> o; `finish` maps a vector of sums to outputs.
template <class T, class Out, class Finish>
void convolve(cpu& executor, view<const T, 3> x, view<const T, 2> weight, view<const T, 1> bias, view<T, 3> kept, view<Out, 3> o,
              std::span<const index> cu, Finish&& finish) {
  using R = accumulate_t<T>;
  const index channels = x.extent[2], taps = weight.extent[1], blocks = (channels + conv_block - 1) / conv_block;
  const auto copies = [&](arena memory) {
    R* const w = memory.take<R>(taps * conv_block);
    R* const b = memory.take<R>(conv_block);
    return std::tuple{w, b, memory.used()};
  };
  executor.reserve(std::get<2>(copies(arena())));
  executor.parallel_for(kept.extent[0] * blocks, [&](index task, int worker) {
    const index n = task / blocks, first = task % blocks * conv_block, count = std::min(conv_block, channels - first);
    const index row = cu.empty() ? n : 0, begin = cu.empty() ? 0 : cu[static_cast<std::size_t>(n)];
    const index end = cu.empty() ? x.extent[1] : cu[static_cast<std::size_t>(n) + 1];
    const conv_sequence<T> s{x.data + row * x.stride[0] + begin * x.stride[1], x.stride[1], kept.data + n * kept.stride[0], taps, channels, end - begin};
    R* const w = std::get<0>(copies(arena(executor.scratch(worker))));
    R* const b = std::get<1>(copies(arena(executor.scratch(worker))));
    for (index c = 0; c < conv_block; ++c) {
      b[c] = c < count && !bias.null() ? static_cast<R>(bias(first + c)) : R(0);
      for (index j = 0; j < taps; ++j) w[j * conv_block + c] = c < count ? static_cast<R>(weight(first + c, j)) : R(0);
    }
    Out* const to = o.data + row * o.stride[0] + begin * o.stride[1];
    switch (taps) {
      case 2: conv_tokens<2>(s, w, b, to, o.stride[1], first, count, finish); break;
      case 3: conv_tokens<3>(s, w, b, to, o.stride[1], first, count, finish); break;
      case 4: conv_tokens<4>(s, w, b, to, o.stride[1], first, count, finish); break;
      default: conv_tokens<0>(s, w, b, to, o.stride[1], first, count, finish);
    }
    s.keep_last(first, count);
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
