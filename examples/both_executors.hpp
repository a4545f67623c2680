// A policy of one's own, and one call for every executor.
#pragma once
#include <weft/core/verbs.hpp>
#include <weft/math/functions.hpp>
#include <weft/recurrence/recurrence.hpp>

// Decays by a learned gate a token, and writes what the value differs from what was read along the key.
struct leaky_delta {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> x, beta;
  };
  static constexpr weft::axes axes{.decay = weft::decay::per_token, .erase = weft::erase::tied};
  template <class R>
  WEFT_HD static constexpr weft::key_terms<R> key_side(const auto& in) {
    return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = weft::log_sigmoid(in.x)};
  }
  template <class R>
  WEFT_HD static constexpr R write(const auto& in) { return in.beta * in.v; }
};

using example_mixer = weft::recurrence<leaky_delta, weft::bf16>;

template <class Executor, class State>
void attend(Executor& executor, const example_mixer& mixer, const example_mixer::inputs& in, State& state, const example_mixer::outputs& out) {
  weft::scan(executor, mixer, in, state, out);
}

struct example_tensors {
  weft::array<weft::bf16, 4> q, k, v, o;  // [B, T, H, D]
  weft::array<float, 3> x, beta;          // [B, T, H]
};

// The same call on the device (both_executors.cu), whose results are brought back to `o` and `state`.
void attend_on_gpu(const example_mixer& mixer, example_tensors& t, example_mixer::state_type& state);
