// Gradients of a causal depthwise convolution on the CPU. Work is split over blocks of channels, which share nothing; a block
// goes through its sequences in order. Behind token t nothing reads input t - W + 1: its gradient is finished there.
#pragma once
#include <algorithm>
#include <span>

#include "short_conv.hpp"

namespace weft {
inline namespace WEFT_ISA {

inline constexpr index conv_gradient_channels = 64;  // of a block

// Null: not wanted.
template <class T>
struct conv_gradients {
  output<T, 3> x{};
  output<T, 2> weight{};
  output<T, 1> bias{};
  view<accumulate_t<T>, 3> kept{};  // [N, W - 1, D]: that of the state after the scan in, that before it out
  bool any() const { return !x.null() || !weight.null() || !bias.null(); }
};

// x, weight, bias, kept as convolve had them; d_o null: zeros. slope(y) is the activation's derivative at a vector of sums.
template <class T, class Slope>
void convolve_vjp(cpu& executor, view<const T, 3> x, view<const T, 2> weight, view<const T, 1> bias, view<const T, 3> kept, const cotangent<T, 3>& d_o,
                  const conv_gradients<T>& d, std::span<const index> cu, Slope&& slope) {
  using R = accumulate_t<T>;
  const index channels = x.extent[2], taps = weight.extent[1], before = taps - 1, block = conv_gradient_channels;
  const index sequences = kept.extent[0];
  // Rows of a block: weights, bias and their gradients; a window of inputs and their gradients, oldest first; what the state
  // after the scan brings.
  const auto room = [&](arena memory) {
    R* const w = memory.take<R>(2 * (taps + 1) * block);
    R* const in = memory.take<R>(2 * taps * block);
    R* const after = memory.take<R>(before * block);
    return std::tuple{w, in, after, memory.used()};
  };
  executor.reserve(std::get<3>(room(arena())));
  executor.parallel_for((channels + block - 1) / block, [&](index task, int worker) {
    const index first = task * block, count = std::min(block, channels - first);
    R *w, *in, *after;
    std::tie(w, in, after, std::ignore) = room(arena(executor.scratch(worker)));
    R* const d_w = w + (taps + 1) * block;
    R* const d_in = in + taps * block;
    std::fill_n(w, 2 * (taps + 1) * block, R(0));
    for (index c = 0; c < count; ++c) {
      for (index j = 0; j < taps; ++j) w[j * block + c] = static_cast<R>(weight(first + c, j));
      if (!bias.null()) w[taps * block + c] = static_cast<R>(bias(first + c));
    }
    for (index n = 0; n < sequences; ++n) {
      const token_span tokens = tokens_of(x.extent[1], cu, n);
      const index row = tokens.batch, begin = tokens.begin, time = tokens.count();
      const auto d_kept = [&](index i) { return d.kept.data + (n * before + i) * channels + first; };
      for (index i = 0; i < before; ++i) std::copy_n(d_kept(i), count, after + i * block);
      // The gradient of input i, counted from the oldest kept one: finished, in the window's first row.
      const auto finish = [&](index i) {
        if (i < before) std::copy_n(d_in, count, d_kept(i));
        else if (!d.x.null())
          d.x.visit([&](const auto& to) { for_lanes<R>(count, [&](index c, auto lane) { put(&to(row, begin + i - before, first) + c, simd<R>::load(d_in + c), lane); }); });
      };
      // The window moves on by one input, whose gradient begins with what the state after the scan brings.
      const auto enter = [&](index i) {
        if (taps > 1) {
          std::copy(in + block, in + taps * block, in);
          std::copy(d_in + block, d_in + taps * block, d_in);
        }
        R* const last = in + before * block;
        if (i < before) widen_row(kept.data + (n * before + i) * channels + first, count, last);
        else widen_row(&x(row, begin + i - before, first), count, last);
        R* const d_last = d_in + before * block;
        if (i >= time && before > 0) std::copy_n(after + (i - time) * block, count, d_last);
        else std::fill_n(d_last, count, R(0));
      };
      // Without gradients of x and the parameters, tokens that read no kept input are not looked at.
      const index last = d.any() ? time : std::min(time, before);
      for (index i = 0; i < before; ++i) enter(i);
      for (index t = 0; t < last; ++t) {
        enter(before + t);
        d_o.visit([&](const auto& from) {
          if (from.null()) return;
          for_lanes<R>(count, [&](index c, auto lane) {
            simd<R> y = simd<R>::load(w + taps * block + c);
            for (index j = 0; j < taps; ++j) y = fma(simd<R>::load(w + j * block + c), simd<R>::load(in + j * block + c), y);
            const simd<R> d_y = get(&from(row, begin + t, first) + c, lane) * slope(y);
            for (index j = 0; j < taps; ++j) {
              put(d_w + j * block + c, fma(d_y, simd<R>::load(in + j * block + c), simd<R>::load(d_w + j * block + c)), lane);
              put(d_in + j * block + c, fma(d_y, simd<R>::load(w + j * block + c), simd<R>::load(d_in + j * block + c)), lane);
            }
            put(d_w + taps * block + c, simd<R>::load(d_w + taps * block + c) + d_y, lane);
          });
        });
        finish(t);
      }
      // What is left in the window: the last W - 1 inputs that were looked at.
      for (index i = last; i < last + before; ++i) {
        if (taps > 1) std::copy(d_in + block, d_in + taps * block, d_in);
        finish(i);
      }
    }
    d.weight.visit([&](const auto& to) {
      using U = typename std::remove_cvref_t<decltype(to)>::element;
      for (index j = 0; j < taps && !to.null(); ++j)
        for (index c = 0; c < count; ++c) to(first + c, j) = static_cast<U>(d_w[j * block + c]);
    });
    d.bias.visit([&](const auto& to) {
      using U = typename std::remove_cvref_t<decltype(to)>::element;
      for (index c = 0; c < count && !to.null(); ++c) to(first + c) = static_cast<U>(d_w[taps * block + c]);
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
