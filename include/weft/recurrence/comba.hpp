// Comba (arXiv 2506.02475): a gated delta rule whose erase reads the state before the decay, along its own vector p,
// S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - S_{t-1}^T p_t)^T, o_t = s S_t^T q_t.
// The output correction q - D p and the inner decay of p belong to the layer: q and p come in finished.
// Reduces to: Gated DeltaNet with p = exp(g) k.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct comba_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k, p;
    weft::value<Rep> v;
    weft::gate<Rep> g, beta;
  };
  static constexpr std::array names{"q", "k", "p", "v", "g", "beta"};
  static constexpr std::array limits{limit{"beta", 0, 2}};
  static constexpr weft::axes axes{.decay = decay::per_token, .erase = erase::tied, .timing = timing::pre};
  static constexpr int unit_keys = 3;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.p, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.beta * in.v; }
};

template <class T>
using comba = recurrence<comba_policy, T>;

}  // namespace v1
}  // namespace weft
