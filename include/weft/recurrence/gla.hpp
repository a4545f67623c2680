// Gated linear attention (Yang et al. 2023, arXiv 2312.06635): S_t = Diag(exp g_t) S_{t-1} + k_t v_t^T, o_t = s S_t^T q_t
// with a log-decay g_t for every key channel. Simple GLA has one a head and token (arXiv 2405.21060, the SSD form).
// Reduces to: simple GLA with g equal over the channels; retention with g constant in time; linear attention at g = 0.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct gla_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
  };
  static constexpr std::array names{"q", "k", "v", "g"};
  static constexpr weft::axes axes{.decay = decay::per_channel};

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

struct simple_gla_policy : gla_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> g;
  };
  static constexpr weft::axes axes{.decay = decay::per_token};
};

template <class T>
using gla = recurrence<gla_policy, T>;
template <class T>
using simple_gla = recurrence<simple_gla_policy, T>;

}  // namespace v1
}  // namespace weft
