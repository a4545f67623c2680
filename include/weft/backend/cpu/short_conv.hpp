// A causal depthwise convolution on the CPU: work is split over sequences and blocks of channels. In a block a few tokens
// at a time are widened into rows of scratch memory, once for all taps; from there every vector of weights and inputs is
// loaded once for four tokens. The rows' stride is no power of two: x and o often have one, and would share cache sets.
#pragma once
#include <algorithm>
#include <span>
#include <type_traits>

#include "../../core/sequences.hpp"
#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

inline constexpr index conv_channels = 256;               // of a block
inline constexpr index conv_stride = conv_channels + 16;  // between rows of scratch
inline constexpr index conv_tokens = 8;                   // widened at a time

// The scratch memory of a block: weights and bias, and the inputs that the next tokens read.
template <class R>
struct conv_scratch {
  R* weight;  // [taps][conv_stride]
  R* bias;
  R* rows;    // [taps - 1 + conv_tokens][conv_stride], the oldest input first

  conv_scratch(arena& memory, index taps)
      : weight(memory.take<R>(taps * conv_stride)), bias(memory.take<R>(conv_stride)), rows(memory.take<R>((taps - 1 + conv_tokens) * conv_stride)) {}
  static std::size_t bytes(index taps) {
    arena memory;
    conv_scratch(memory, taps);
    return memory.used();
  }
};

// Widens `count` numbers; the rest of the last vector is zero.
template <class T>
WEFT_INLINE void widen_row(const T* from, index count, accumulate_t<T>* to) {
  using R = accumulate_t<T>;
  for_lanes<R>(count, [&](index c, auto lane) { get(from + c, lane).store(to + c); });
}

// N tokens that start at scratch row `first`; W taps.
template <int W, int N, class R, class Out, class Finish>
void convolve_rows(const conv_scratch<R>& s, index first, index count, Out* o, index o_stride, Finish&& finish) {
  const R* const rows = s.rows + first * conv_stride;
  for_lanes<R>(count, [&](index c, auto lane) {
    simd<R> w[W], y[N];
    WEFT_UNROLL for (int j = 0; j < W; ++j) w[j] = simd<R>::load(s.weight + j * conv_stride + c);
    WEFT_UNROLL for (int n = 0; n < N; ++n) y[n] = simd<R>::load(s.bias + c);
    WEFT_UNROLL for (int i = 0; i < W + N - 1; ++i) {
      const simd<R> x = simd<R>::load(rows + i * conv_stride + c);
      WEFT_UNROLL for (int n = 0; n < N; ++n)
        if (i >= n && i - n < W) y[n] = fma(w[i - n], x, y[n]);
    }
    WEFT_UNROLL for (int n = 0; n < N; ++n) put(o + n * o_stride + c, finish(y[n]), lane);
  });
}

// One token, any number of taps.
template <class R, class Out, class Finish>
void convolve_row(const conv_scratch<R>& s, index first, index taps, index count, Out* o, Finish&& finish) {
  for_lanes<R>(count, [&](index c, auto lane) {
    simd<R> y = simd<R>::load(s.bias + c);
    for (index j = 0; j < taps; ++j) y = fma(simd<R>::load(s.weight + j * conv_stride + c), simd<R>::load(s.rows + (first + j) * conv_stride + c), y);
    put(o + c, finish(y), lane);
  });
}

// `tokens` new rows lie in scratch behind the taps - 1 older ones; W taps, or 0 for any number.
template <int W, class R, class Out, class Finish>
void convolve_tokens(const conv_scratch<R>& s, index taps, index tokens, index count, Out* o, index o_stride, Finish&& finish) {
  index n = 0;
  if constexpr (W > 0)
    for (; n + 4 <= tokens; n += 4) convolve_rows<W, 4>(s, n, count, o + n * o_stride, o_stride, finish);
  for (; n < tokens; ++n)
    if constexpr (W > 0) convolve_rows<W, 1>(s, n, count, o + n * o_stride, o_stride, finish);
    else convolve_row(s, n, taps, count, o + n * o_stride, finish);
}

// One token and four taps, in whole vectors and without scratch memory; before: the three older inputs.
template <class T, class R, class Out, class Finish>
void convolve_one(const T* weight, const T* bias, const T* before, index stride, const T* x, index count, Out* o, Finish&& finish) {
  constexpr index W = simd<R>::width;
  for (index c = 0; c < count; c += W) {
    simd<R> w[4];
    WEFT_UNROLL for (index j = 0; j < 4; ++j) w[j] = load(weight + 4 * c + j * W);
    split_in_four(w);
    simd<R> y = bias ? load(bias + c) : simd<R>(R(0));
    WEFT_UNROLL for (index j = 0; j < 3; ++j) y = fma(w[j], load(before + j * stride + c), y);
    store(o + c, finish(fma(w[3], load(x + c), y)));
  }
}

// x [B, T, D], weight [D, W], bias [D] or null, kept [N, W - 1, D] -> o; `finish` maps a vector of sums to outputs.
template <class T, class Out, class Finish>
void convolve(cpu& executor, view<const T, 3> x, view<const T, 2> weight, view<const T, 1> bias, view<T, 3> kept, view<Out, 3> o,
              std::span<const index> cu, Finish&& finish) {
  using R = accumulate_t<T>;
  const index channels = x.extent[2], taps = weight.extent[1], blocks = (channels + conv_channels - 1) / conv_channels;
  executor.reserve(conv_scratch<R>::bytes(taps));
  executor.parallel_for(kept.extent[0] * blocks, [&](index task, int worker) {
    const index n = task / blocks, first = task % blocks * conv_channels, count = std::min(conv_channels, channels - first);
    const token_span own = tokens_of(x.extent[1], cu, n);
    const index row = own.batch, begin = own.begin, time = own.count();
    if (time == 0) return;
    T* const before = kept.data + n * kept.stride[0] + first;
    const T* const in = x.data + row * x.stride[0] + begin * x.stride[1] + first;
    Out* const out = o.data + row * o.stride[0] + begin * o.stride[1] + first;
    if (time == 1 && taps == 4 && weight.stride[0] == 4 && count % simd<R>::width == 0) {
      convolve_one<T, R>(weight.data + 4 * first, bias.null() ? nullptr : bias.data + first, before, channels, in, count, out, finish);
      for (index i = 0; i < 3; ++i) std::copy_n(i < 2 ? before + (i + 1) * channels : in, count, before + i * channels);
      return;
    }
    arena memory(executor.scratch(worker));
    const conv_scratch<R> s(memory, taps);
    const index channel = weight.stride[0], whole = (count + simd<R>::width - 1) / simd<R>::width * simd<R>::width;
    for (index j = 0; j < taps; ++j) {  // plain loops: in a step they are half the work
      const T* const from = weight.data + first * channel + j;
      R* const to = s.weight + j * conv_stride;
      for (index c = 0; c < count; ++c) to[c] = static_cast<R>(from[c * channel]);
      std::fill(to + count, to + whole, R(0));
    }
    if (bias.null()) std::fill_n(s.bias, whole, R(0));
    else widen_row(bias.data + first, count, s.bias);
    for (index i = 0; i < taps - 1; ++i) widen_row(before + i * channels, count, s.rows + i * conv_stride);

    for (index t = 0; t < time; t += conv_tokens) {
      const index tokens = std::min(conv_tokens, time - t);
      for (index i = 0; i < tokens; ++i) widen_row(in + (t + i) * x.stride[1], count, s.rows + (taps - 1 + i) * conv_stride);
      Out* const to = out + t * o.stride[1];
      switch (taps) {
        case 2: convolve_tokens<2>(s, taps, tokens, count, to, o.stride[1], finish); break;
        case 3: convolve_tokens<3>(s, taps, tokens, count, to, o.stride[1], finish); break;
        case 4: convolve_tokens<4>(s, taps, tokens, count, to, o.stride[1], finish); break;
        default: convolve_tokens<0>(s, taps, tokens, count, to, o.stride[1], finish);
      }
      if (t + tokens < time) std::copy_n(s.rows + tokens * conv_stride, (taps - 1) * conv_stride, s.rows);  // towards the front
    }
    for (index i = 0; i < taps - 1; ++i) {  // the last inputs as they came; ascending: a row moves only towards the front
      const index t = time - taps + 1 + i;
      std::copy_n(t >= 0 ? in + t * x.stride[1] : before + (taps - 1 + t) * channels, count, before + i * channels);
    }
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
