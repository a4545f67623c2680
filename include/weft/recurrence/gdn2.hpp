// Gated DeltaNet-2 (arXiv 2605.22791): erase and write have gates of their own, b on key channels and w on value channels,
// S_t = (I - k_t (b_t k_t)^T) Diag(exp g_t) S_{t-1} + k_t (w_t v_t)^T, o_t = s S_t^T q_t.
// The erase is no contraction where b differs over the channels: states can grow.
// Reduces to: KDA with b = w = beta.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct gdn2_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::key_gate<Rep> g, b;
    weft::value_gate<Rep> w;
  };
  static constexpr std::array names{"q", "k", "v", "g", "b", "w"};
  static constexpr std::array limits{limit{"b", 0, 2}, limit{"w", 0, 2}};
  static constexpr weft::axes axes{.decay = decay::per_channel, .erase = erase::tied};
  static constexpr int unit_keys = 2;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.b * in.k, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.w * in.v; }
};

template <class T>
using gdn2 = recurrence<gdn2_policy, T>;

}  // namespace v1
}  // namespace weft
