// RWKV-6 (Peng et al. 2024, arXiv 2404.05892): the read comes before the decay and the write of its token,
// o_t = (S_{t-1} + Diag(u) k_t v_t^T)^T q_t, then S_t = Diag(exp g_t) S_{t-1} + k_t v_t^T. q is the receptance r, scale 1.
// Reduces to: linear attention at g = 0, u = 1.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct rwkv6_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
    weft::head_key<Rep> u;
  };
  static constexpr std::array names{"q", "k", "v", "g", "u"};
  static constexpr weft::axes axes{.decay = decay::per_channel, .read = read::exclusive_bonus};
  static constexpr double scale = 1.0;

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .g = in.g, .u = in.u}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

template <class T>
using rwkv6 = recurrence<rwkv6_policy, T>;

}  // namespace v1
}  // namespace weft
