// Short causal depthwise convolution, as in Mamba (arXiv 2312.00752), the delta nets and LFM2:
//
// The mixer and its definition; engines are in short_conv.hpp and short_conv_cuda.hpp.
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
#include "../core/sequences.hpp"
#include "../core/state.hpp"
#include "../core/verbs.hpp"
#include "../math/activation.hpp"

namespace weft {
inline namespace v1 {

// The last W - 1 inputs [batch, W - 1, channels], oldest first, as they came: in their storage type.
template <storage T, template <class, int> class Array = array>
struct conv_state {
  template <template <class, int> class Other>
  using with = conv_state<T, Other>;

  Array<T, 3> inputs;

  auto parts() { return std::tuple{part{"inputs", inputs}}; }
  auto parts() const { return std::tuple{part{"inputs", inputs}}; }
  conv_state like() const { return {}; }
  WEFT_INLINE conv_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE conv_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
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
  struct cotangents {
    cotangent<T, 3> o{};
  };
  struct gradients {
    output<T, 3> x{};
    output<T, 2> weight{};
    output<T, 1> bias{};
  };
  using state_gradient = conv_state<accumulate_t<T>>;

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

template <storage T, class State>
conv_extents check_conv(const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, const State& state, const typename short_conv<T>::outputs& out,
                        std::span<const index> cu) {
  require(mixer.taps >= 1, errc::value, "taps: expected at least 1, got ", mixer.taps);
  const index channels = in.weight.null() ? state.inputs.extent(2) : in.weight.extent[0];
  check::tensor("weight", in.weight, {channels, mixer.taps}, false, true);
  check::tensor("bias", in.bias, {channels}, true, true);
  check::tensor("x", in.x, {in.x.extent[0], in.x.extent[1], channels}, false, true);
  require(!in.x.null() || in.x.extent[2] == channels, errc::missing, "x: expected [batch, time, ", channels, "], got a null view");
  const conv_extents x{check::sequences(cu, in.x.extent[0], in.x.extent[1]), in.x.extent[1], channels, mixer.taps};
  check::tensor("state.inputs", state.inputs.view(), {x.sequences, x.taps - 1, channels}, false, true);
  const check::operand before("state.inputs", state.inputs.view()), o("o", out.o), from("x", in.x), weight("weight", in.weight), bias("bias", in.bias);
  check::result(o, in.x.extent, false, true);
  check::apart({before, o}, {from, weight, bias});  // names: nvcc reads no list of temporaries whose types depend on T
  return x;
}

}  // namespace detail

template <storage T>
void run_literal(const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
                 const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  const detail::conv_extents e = detail::check_conv(mixer, in, state, out, cu);
  for (index n = 0; n < e.sequences; ++n) {
    const token_span tokens = tokens_of(e.time, cu, n);
    const index b = tokens.batch, begin = tokens.begin, end = tokens.end;
    for (index t = begin; t < end; ++t)
      for (index c = 0; c < e.channels; ++c) {
        R y = in.bias.null() ? R(0) : static_cast<R>(in.bias(c));
        for (index j = 0; j < e.taps; ++j) {
          const index s = t - e.taps + 1 + j;
          y += static_cast<R>(in.weight(c, j)) * static_cast<R>(s >= begin ? in.x(b, s, c) : state.inputs(n, e.taps - 1 + s - begin, c));
        }
        with_activation(mixer.activation, [&](auto a) { y = activated<a()>(y); });
        out.o.visit([&](const auto& o) { o(b, t, c) = static_cast<typename std::remove_cvref_t<decltype(o)>::element>(y); });
      }
    for (index i = 0; end > begin && i < e.taps - 1; ++i)
      for (index c = 0; c < e.channels; ++c) {
        const index s = end - e.taps + 1 + i;
        state.inputs(n, i, c) = s >= begin ? in.x(b, s, c) : state.inputs(n, e.taps - 1 + s - begin, c);
      }
  }
}

}  // namespace WEFT_ISA
}  // namespace weft
