// RetNet (Sun et al. 2023, arXiv 2307.08621) and Lightning attention (Qin et al. 2024, arXiv 2405.17381):
// S_t = exp(g_h) S_{t-1} + k_t v_t^T, o_t = s S_t^T q_t with one constant log-decay g_h a head.
// RetNet rotates q and k before; Lightning runs with scale 1. Reduces to: linear attention at g = 0.
#pragma once
#include "recurrence.hpp"

namespace weft {
inline namespace v1 {

struct retention_policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::head<Rep> g;
  };
  static constexpr std::array names{"q", "k", "v", "g"};
  static constexpr weft::axes axes{.decay = decay::per_head};

  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .g = in.g}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.v; }
};

struct lightning_policy : retention_policy {
  static constexpr double scale = 1.0;
};

template <class T>
using retention = recurrence<retention_policy, T>;
template <class T>
using lightning = recurrence<lightning_policy, T>;

// RetNet's log-decay of head h: log(1 - 2^(-5 - h)).
inline double retention_decay(index h) { return std::log1p(-std::exp2(-5.0 - static_cast<double>(h))); }

// Lightning's log-decay of head h of `heads` in layer `layer` of `layers`: minus the ALiBi slope, weaker in later layers.
// For a head count that is no power of two, the slopes of the next lower one, then every second slope of the next higher.
inline double lightning_decay(index h, index heads, index layer, index layers) {
  index low = 1;
  while (low * 2 <= heads) low *= 2;
  const double rank = h < low ? static_cast<double>(h + 1) * 8.0 / static_cast<double>(low)
                              : static_cast<double>(2 * (h - low) + 1) * 4.0 / static_cast<double>(low);
  const double depth = layers > 1 ? static_cast<double>(layer) / (static_cast<double>(layers - 1) + 1e-5) : 0.0;
  return -std::exp2(-rank) * (1.0 - depth + 1e-5);
}

}  // namespace v1
}  // namespace weft
