// The recurrence mixer: a policy (a paper's equation) over a storage type, and its state.
#pragma once
#include <cmath>
#include <initializer_list>
#include <optional>
#include <span>
#include <tuple>

#include "../core/array.hpp"
#include "../core/output.hpp"
#include "../core/state.hpp"
#include "policy.hpp"

namespace weft {
inline namespace v1 {

// S [batch, heads, key_dim, value_dim], and with a normaliser the sum of the keys n [batch, heads, key_dim].
// R is float or double; bf16 and fp16 are states of half the size, rounded after every scan or step.
template <class R, template <class, int> class Array = array>
struct recurrent_state {
  template <template <class, int> class Other>
  using with = recurrent_state<R, Other>;

  Array<R, 4> matrix;
  Array<R, 3> normaliser;

  auto parts() { return std::tuple{part{"matrix", matrix}, part{"normaliser", normaliser}}; }
  auto parts() const { return std::tuple{part{"matrix", matrix}, part{"normaliser", normaliser}}; }
  recurrent_state like() const { return {}; }
  // The rows in the given order, repeats allowed: `rows = state.gather({3, 0})`.
  WEFT_INLINE recurrent_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE recurrent_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

// recurrence<gated_delta_policy, float> mixer{.qk_l2norm = true};
template <class Policy, class T, class StateReal = accumulate_t<T>>
struct recurrence {
  static_assert(has_inputs<Policy>, "weft: a policy needs template <class Rep> struct inputs, with its tensors by role");
  static_assert(has_axes<Policy>, "weft: a policy needs static constexpr weft::axes axes");
  static_assert(has_key_side<Policy>, "weft: a policy needs key_side<R>(const auto& in), which returns weft::key_terms<R>");
  static_assert(has_write<Policy>, "weft: a policy needs write<R>(const auto& in), which returns R");
  static_assert(names_fit<Policy>(), "weft: a policy's names are those of its inputs, one for each, in order");
  static_assert(limits_fit<Policy>(), "weft: a policy's limits are of inputs by name, with low <= high");
  static_assert(!Policy::axes.normalised || Policy::axes.erase == erase::none, "weft: a normaliser sums what is written; it needs axes without erase");
  static_assert(!Policy::axes.normalised || !Policy::axes.micro_steps, "weft: a normaliser is defined for axes without micro-steps");
  static_assert(Policy::axes.read == read::inclusive || (Policy::axes.erase == erase::none && !Policy::axes.normalised && !Policy::axes.micro_steps),
                "weft: the exclusive read is defined for axes without erase, normaliser and micro-steps");
  static_assert(storage<T>, "weft: activations are stored as float, double, weft::bf16 or weft::fp16");
  static_assert(storage<StateReal>, "weft: a state is stored as float, double, weft::bf16 or weft::fp16");

  using policy_type = Policy;
  using storage_type = T;
  using real = accumulate_t<T>;
  using inputs = inputs_of<Policy, T>;
  using state_type = recurrent_state<StateReal>;
  struct outputs {
    output<T, 4> o;  // [B, T, HV, V]
  };
  struct cotangents {
    cotangent<T, 4> o;   // [B, T, HV, V]
  };
  using gradients = typename Policy::template inputs<gradient_views<T>>;
  using state_gradient = recurrent_state<real>;
  static constexpr weft::axes axes = Policy::axes;

  Policy policy{};                  // the policy's own options
  std::optional<double> scale{};    // multiplies q; default key_dim^-1/2, or what the policy states
  bool qk_l2norm = false;           // unit length for the policy's first unit_keys key inputs
  double l2norm_eps = 1e-6;         // inside the root
  int micro_steps = 1;              // writes a token, for policies with micro-steps
  double normaliser_eps = 1e-10;    // added to the normaliser

  // Zeros.
  WEFT_INLINE state_type state(const shape& s) const {
    state_type out;
    out.matrix = array<StateReal, 4>({s.batch, s.heads, s.key_dim, s.value_dim});
    if (axes.normalised) out.normaliser = array<StateReal, 3>({s.batch, s.heads, s.key_dim});
    return out;
  }

  WEFT_INLINE double scale_for(index key_dim) const {
    if (scale) return *scale;
    if constexpr (requires { Policy::scale; }) return Policy::scale;
    return key_dim > 0 ? 1.0 / std::sqrt(static_cast<double>(key_dim)) : 1.0;
  }
};

}  // namespace v1
}  // namespace weft
