// Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): S_t = S_{t-1} + phi(k_t) v_t^T, o_t = s S_t^T phi(q_t).
// With the normaliser, n_t = n_{t-1} + phi(k_t) and o_t is divided by s phi(q_t) . n_t + eps.
// Reduces to: GLA, simple GLA and retention without decay.
#pragma once
#include "../math/functions.hpp"
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

enum class feature_map { identity, elu1, relu };

template <class R>
WEFT_HD WEFT_INLINE R phi(feature_map map, const R& x) {
  if (map == feature_map::elu1) return elu1(x);
  if (map == feature_map::relu) return relu(x);
  return x;
}

template <bool Normalised>
struct linear_attention_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
  };
  static constexpr std::array names{"q", "k", "v"};
  static constexpr weft::axes axes{.normalised = Normalised};

  feature_map map = Normalised ? feature_map::elu1 : feature_map::identity;

  template <class R>
  WEFT_HD WEFT_INLINE key_terms<R> key_side(const auto& in) const {
    return {.q = phi<R>(map, in.q), .k = phi<R>(map, in.k)};
  }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

template <class T>
using linear_attention = recurrence<linear_attention_policy<false>, T>;
template <class T>
using linear_attention_normalised = recurrence<linear_attention_policy<true>, T>;

}  // namespace v1
}  // namespace weft
