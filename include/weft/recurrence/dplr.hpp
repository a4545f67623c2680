// Diagonal plus low rank: S_t = (Diag(exp g_t) + b_t a_t^T) S_{t-1} + k_t v_t^T, o_t = s S_t^T q_t. The low-rank term reads
// the state before the decay. RWKV-7 (Peng et al. 2025, arXiv 2503.14456) is a = -kappa, b = kappa * alpha with scale 1.
// In the engine's terms c = -a, p = b. Reduces to: DeltaNet at g = 0, a = -k, b = beta k, and v given as beta v.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct dplr_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
    weft::key<Rep> a, b;
  };
  static constexpr std::array names{"q", "k", "v", "g", "a", "b"};
  static constexpr weft::axes axes{.decay = decay::per_channel, .erase = erase::two_writers, .timing = timing::pre};

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = -in.a, .p = in.b, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

struct rwkv7_policy : dplr_policy {
  static constexpr double scale = 1.0;
};

template <class T>
using dplr = recurrence<dplr_policy, T>;
template <class T>
using rwkv7 = recurrence<rwkv7_policy, T>;

}  // namespace v1
}  // namespace weft
