// The short convolution on the CPU: work is split over sequences and blocks of channels; in a block, token after token,
// so that memory is read and written in order and the earlier taps' rows still lie in L1.
#pragma once
#include "../../layer/short_conv.hpp"
#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

inline constexpr index conv_block = 512;  // channels: the rows and taps of a block fill half of the smallest L1

// W taps at compile time, 0: `taps` at run time. weight [taps][block] and bias [block] are copies.
template <int W, activation A, class T, class Out>
void conv_tokens(const T* x, index stride, const T* kept, index taps, index channels, index time, index first, index count,
                 const accumulate_t<T>* weight, const accumulate_t<T>* bias, Out* o, index o_stride) {
  using R = accumulate_t<T>;
  const index n = W > 0 ? W : taps;
  for (index t = 0; t < time; ++t) {
    const T* row[W > 0 ? W : 1];
    if constexpr (W > 0)
      for (index j = 0; j < W; ++j) row[j] = conv_row(x, stride, kept, n, channels, t - W + 1 + j) + first;
    Out* const to = o + t * o_stride + first;
    for_lanes<R>(count, [&](index c, auto lane) {
      simd<R> y = simd<R>::load(bias + c);
      if constexpr (W > 0) {
        WEFT_UNROLL for (int j = 0; j < W; ++j) y = fma(simd<R>::load(weight + j * conv_block + c), get(row[j] + c, lane), y);
      } else {
        for (index j = 0; j < n; ++j)
          y = fma(simd<R>::load(weight + j * conv_block + c), get(conv_row(x, stride, kept, n, channels, t - n + 1 + j) + first + c, lane), y);
      }
      put(to + c, activated<A>(y), lane);
    });
  }
}

template <storage T>
void conv_on_cpu(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
                 const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  const conv_extents e = check_conv(mixer, in, state, out, cu);
  const auto copies = [&](arena memory) {
    R* const weight = memory.take<R>(e.taps * conv_block);
    R* const bias = memory.take<R>(conv_block);
    return std::tuple{weight, bias, memory.used()};
  };
  executor.reserve(std::get<2>(copies(arena())));
  const index blocks = (e.channels + conv_block - 1) / conv_block;
  out.o.visit([&](const auto& o) {
    with_activation(mixer.activation, [&](auto act) {
      executor.parallel_for(e.sequences * blocks, [&](index task, int worker) {
        const index n = task / blocks, first = task % blocks * conv_block, count = std::min(conv_block, e.channels - first);
        const index b = cu.empty() ? n : 0, begin = cu.empty() ? 0 : cu[static_cast<std::size_t>(n)];
        const index time = (cu.empty() ? e.time : cu[static_cast<std::size_t>(n) + 1]) - begin;
        if (time == 0) return;
        const auto [weight, bias, used] = copies(arena(executor.scratch(worker)));
        static_cast<void>(used);
        for (index c = 0; c < conv_block; ++c) {
          bias[c] = c < count && !in.bias.null() ? static_cast<R>(in.bias(first + c)) : R(0);
          for (index j = 0; j < e.taps; ++j) weight[j * conv_block + c] = c < count ? static_cast<R>(in.weight(first + c, j)) : R(0);
        }
        const T* const x = in.x.data + b * in.x.stride[0] + begin * in.x.stride[1];
        T* const kept = state.inputs.data() + n * (e.taps - 1) * e.channels;
        auto* const to = o.data + b * o.stride[0] + begin * o.stride[1];
        const auto tokens = [&](auto taps) {
          conv_tokens<taps(), act()>(x, in.x.stride[1], kept, e.taps, e.channels, time, first, count, weight, bias, to, o.stride[1]);
        };
        switch (e.taps) {
          case 2: tokens(std::integral_constant<int, 2>{}); break;
          case 3: tokens(std::integral_constant<int, 3>{}); break;
          case 4: tokens(std::integral_constant<int, 4>{}); break;
          default: tokens(std::integral_constant<int, 0>{});
        }
        keep_inputs(x, in.x.stride[1], kept, e.taps, e.channels, time, first, count);
      });
    });
  });
}

}  // namespace detail

template <storage T>
void run_scan(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
              const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  detail::conv_on_cpu(executor, mixer, in, state, out, cu);
}

template <storage T>
void run_step(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
              const typename short_conv<T>::outputs& out) {
  require(in.x.extent[1] == 1, errc::shape, "x: expected one token a sequence, got ", in.x.extent[1]);
  detail::conv_on_cpu(executor, mixer, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
