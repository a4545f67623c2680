// Aaren: attention as a recurrence. One learned query a head reads every prefix of the sequence; the state is the one element
// of the softmax monoid that stands for all tokens so far (math/softmax_state.hpp), whatever their number.
//
//   s_t = scale q . k_t,  m_t = max(m_{t-1}, s_t),  w_t = exp(m_{t-1} - m_t)
//   c_t = w_t c_{t-1} + exp(s_t - m_t),  a_t = w_t a_{t-1} + exp(s_t - m_t) v_t,  o_t = a_t / c_t
//
// O(T (K + V)) a head. Source: Feng et al. 2024 (arXiv 2405.13956).
#pragma once
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <tuple>

#include "../core/array.hpp"
#include "../core/output.hpp"
#include "../core/roles.hpp"
#include "../core/state.hpp"

namespace weft {
inline namespace v1 {

template <class R>
struct aaren_state {
  array<R, 2> m, c;  // [N, H]
  array<R, 3> a;     // [N, H, V]

  auto parts() { return std::tuple{part{"m", m}, part{"c", c}, part{"a", a}}; }
  auto parts() const { return std::tuple{part{"m", m}, part{"c", c}, part{"a", a}}; }
  aaren_state like() const { return {}; }
  WEFT_INLINE aaren_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE aaren_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

template <class T>
struct aaren {
  static_assert(storage<T>, "weft: activations are stored as float, double, weft::bf16 or weft::fp16");
  using storage_type = T;
  using real = accumulate_t<T>;
  using state_type = aaren_state<real>;
  struct inputs {
    input<roles::head_key, real> q;  // [H, K], the same for every token
    input<roles::key, T> k;          // [B, T, H, K]
    input<roles::value, T> v;        // [B, T, H, V]
  };
  static constexpr std::array names{"q", "k", "v"};
  struct outputs {
    output<T, 4> o;                  // [B, T, H, V]; may be exactly v
  };

  struct cotangents {
    cotangent<T, 4> o;
  };
  struct gradients {
    gradient<roles::head_key, T> q{};
    gradient<roles::key, T> k{};
    gradient<roles::value, T> v{};
  };
  using state_gradient = aaren_state<real>;  // as numbers; all zeros: none

  std::optional<double> scale{};  // default K^-1/2

  // The empty set. Reads batch, heads and value_dim.
  state_type state(const shape& s) const {
    state_type out{array<real, 2>({s.batch, s.heads}), array<real, 2>({s.batch, s.heads}), array<real, 3>({s.batch, s.heads, s.value_dim})};
    for (index i = 0; i < out.m.size(); ++i) out.m.data()[i] = -std::numeric_limits<real>::infinity();
    return out;
  }

  double scale_for(index key_dim) const {
    if (scale) return *scale;
    return key_dim > 0 ? 1.0 / std::sqrt(static_cast<double>(key_dim)) : 1.0;
  }
};

}  // namespace v1
}  // namespace weft
