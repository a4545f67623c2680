// A recurrence that the library does not have: a delta rule whose decay is a sigmoid of the input,
//   S <- a S + beta k (v - (a S)^T k)^T,  a = sigmoid(x)
#pragma once
#include <weft/math/functions.hpp>
#include <weft/recurrence/recurrence.hpp>

struct leaky_delta {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> x, beta;
  };
  static constexpr weft::axes axes{.decay = weft::decay::per_token, .erase = weft::erase::tied};
  template <class R>
  WEFT_HD static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = weft::log_sigmoid(in.x)}; }
  template <class R>
  WEFT_HD static R write(const auto& in) { return in.beta * in.v; }
};
