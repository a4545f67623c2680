// Short causal depthwise convolution, as in Mamba (arXiv 2312.00752), the delta nets and LFM2:
//
//   o_t = act(bias + sum_j weight[:, j] x_{t - W + 1 + j})        weight [D, W]: the last tap meets the current token
//
// A mixer: its state is the last W - 1 inputs. O(T D W).
#pragma once
#include <initializer_list>
#include <span>
#include <tuple>

#include "../core/check.hpp"
#include "../core/output.hpp"
#include "../core/state.hpp"
#include "../core/verbs.hpp"
#include "activation.hpp"

namespace weft {
inline namespace v1 {

// The last W - 1 inputs [batch, W - 1, channels], oldest first, as they came: in their storage type.
template <storage T>
struct conv_state {
  array<T, 3> inputs;

  auto parts() { return std::tuple{part{"inputs", inputs}}; }
  auto parts() const { return std::tuple{part{"inputs", inputs}}; }
  conv_state like() const { return {}; }
  conv_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  conv_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

template <storage T>
struct short_conv {
  using storage_type = T;
  using state_type = conv_state<T>;
  struct inputs {
    view<const T, 3> x{};       // [B, T, D]
    view<const T, 2> weight{};  // [D, W]
    view<const T, 1> bias{};    // [D], optional
  };
  struct outputs {
    output<T, 3> o{};           // [B, T, D]
  };

  index taps = 4;             // W
  weft::activation activation = weft::activation::none;

  // Zeros: nothing came before. Reads batch and value_dim, the channels.
  state_type state(const shape& s) const {
    if (taps < 1) throw error(errc::value, "weft: taps: expected at least 1, got " + std::to_string(taps));
    return {array<T, 3>({s.batch, taps - 1, s.value_dim})};
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

struct conv_extents {
  index sequences = 0, time = 0, channels = 0, taps = 0;
};

template <storage T>
conv_extents check_conv(const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, const conv_state<T>& state,
                        const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  require(mixer.taps >= 1, errc::value, "taps: expected at least 1, got ", mixer.taps);
  const index channels = in.weight.extent[0];
  check::tensor<const T, 2>("weight", in.weight, {channels, mixer.taps}, false, true);
  check::tensor<const T, 1>("bias", in.bias, {channels}, true, true);
  check::tensor<const T, 3>("x", in.x, {in.x.extent[0], in.x.extent[1], channels}, false, true);
  const conv_extents x{check::sequences(cu, in.x.extent[0], in.x.extent[1]), in.x.extent[1], channels, mixer.taps};
  check::tensor<const T, 3>("state.inputs", state.inputs.view(), {x.sequences, x.taps - 1, channels}, false, true);
  out.o.visit([&](const auto& o) {
    check::tensor("o", o, in.x.extent, false, true);
    check::no_overlap("o", o, "x", in.x);
    check::no_overlap("o", o, "weight", in.weight);
    check::no_overlap("o", o, "bias", in.bias);
    check::no_overlap("o", o, "state", state.inputs.view());
  });
  check::no_overlap("x", in.x, "state", state.inputs.view());
  return x;
}

// Input t of a sequence that starts at x: before 0 from the state.
template <storage T>
WEFT_INLINE const T* conv_row(const T* x, index stride, const T* kept, index taps, index channels, index t) {
  return t >= 0 ? x + t * stride : kept + (taps - 1 + t) * channels;
}

// The last taps - 1 inputs of (kept, the sequence's `time` tokens), channels [first, first + count).
template <storage T>
void keep_inputs(const T* x, index stride, T* kept, index taps, index channels, index time, index first, index count) {
  for (index i = 0; time > 0 && i < taps - 1; ++i)  // ascending: a row moves only towards the front
    std::copy_n(conv_row(x, stride, kept, taps, channels, time - taps + 1 + i) + first, count, kept + i * channels + first);
}

}  // namespace detail

template <storage T>
void run_literal(const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
                 const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  const detail::conv_extents e = detail::check_conv(mixer, in, state, out, cu);
  for (index n = 0; n < e.sequences; ++n) {
    const index b = cu.empty() ? n : 0, begin = cu.empty() ? 0 : cu[static_cast<std::size_t>(n)];
    const index time = (cu.empty() ? e.time : cu[static_cast<std::size_t>(n) + 1]) - begin;
    const T* const x = in.x.data + b * in.x.stride[0] + begin * in.x.stride[1];
    T* const kept = state.inputs.data() + n * (e.taps - 1) * e.channels;
    for (index t = 0; t < time; ++t)
      for (index c = 0; c < e.channels; ++c) {
        R y = in.bias.null() ? R(0) : static_cast<R>(in.bias(c));
        for (index j = 0; j < e.taps; ++j)
          y += static_cast<R>(in.weight(c, j)) * static_cast<R>(detail::conv_row(x, in.x.stride[1], kept, e.taps, e.channels, t - e.taps + 1 + j)[c]);
        with_activation(mixer.activation, [&](auto a) { y = activated<a()>(y); });
        out.o.visit([&](const auto& o) { o(b, begin + t, c) = static_cast<typename std::remove_cvref_t<decltype(o)>::element>(y); });
      }
    detail::keep_inputs(x, in.x.stride[1], kept, e.taps, e.channels, time, 0, e.channels);
  }
}

}  // namespace WEFT_ISA
}  // namespace weft

#include "../backend/cpu/short_conv.hpp"
