// The delta rules: the write is what the state does not yet say about k.
//
// DeltaNet (Schlag et al. 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484):
//   S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T
// Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464): the state decays first by exp(g_t), one number a value head.
// Kimi Delta Attention (arXiv 2510.26692): g_t for every key channel.
// All read o_t = s S_t^T q_t after the write; beta in [0, 1], or [0, 2] with negative eigenvalues.
// Reductions: KDA with g equal over the channels = Gated DeltaNet; at g = 0 = DeltaNet; beta = 0 writes nothing.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct delta_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> beta;
  };
  static constexpr std::array names{"q", "k", "v", "beta"};
  static constexpr std::array limits{limit{"beta", 0, 2}};
  static constexpr weft::axes axes{.erase = erase::tied};
  static constexpr int unit_keys = 2;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.beta * in.v; }
};

struct gated_delta_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> g, beta;
  };
  static constexpr std::array names{"q", "k", "v", "g", "beta"};
  static constexpr std::array limits{limit{"beta", 0, 2}};
  static constexpr weft::axes axes{.decay = decay::per_token, .erase = erase::tied};
  static constexpr int unit_keys = 2;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.beta * in.v; }
};

struct kda_policy : gated_delta_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
    weft::gate<Rep> beta;
  };
  static constexpr weft::axes axes{.decay = decay::per_channel, .erase = erase::tied};
};

template <class T>
using delta_rule = recurrence<delta_policy, T>;
template <class T>
using gated_delta_rule = recurrence<gated_delta_policy, T>;
template <class T>
using kda = recurrence<kda_policy, T>;

}  // namespace v1
}  // namespace weft
