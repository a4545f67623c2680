// Gated DeltaProduct (arXiv 2502.10297): n delta steps a token, one decay before the first and one read after the last.
// Row t n + j of k, v and beta is micro-step j of token t; n is the mixer's `micro_steps`. Absent g means no decay.
// Reduces to: Gated DeltaNet at n = 1.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct gated_delta_product_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q;
    weft::micro_key<Rep> k;
    weft::micro_value<Rep> v;
    weft::micro_gate<Rep> beta;
    weft::gate<Rep> g;
  };
  static constexpr std::array names{"q", "k", "v", "beta", "g?"};
  static constexpr std::array limits{limit{"beta", 0, 2}};
  static constexpr weft::axes axes{.decay = decay::per_token, .erase = erase::tied, .micro_steps = true};
  static constexpr int unit_keys = 2;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.beta * in.v; }
};

template <class T>
using gated_delta_product = recurrence<gated_delta_product_policy, T>;

}  // namespace v1
}  // namespace weft
