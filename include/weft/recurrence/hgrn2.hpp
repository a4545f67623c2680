// HGRN-2 (Qin et al. 2024, arXiv 2404.07904): GLA whose key is what the decay forgets, k_t = 1 - exp(g_t).
// The lower bound of the forget gate is already in g. Computed as -expm1(g), exact for slow decays.
// Reduces to: GLA with k given.
#pragma once
#include "../math/functions.hpp"
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct hgrn2_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
  };
  static constexpr std::array names{"q", "v", "g"};
  static constexpr weft::axes axes{.decay = decay::per_channel};

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = -weft::expm1(in.g), .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

template <class T>
using hgrn2 = recurrence<hgrn2_policy, T>;

}  // namespace v1
}  // namespace weft
