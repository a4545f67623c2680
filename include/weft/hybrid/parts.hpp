// What every combination of mixers does with its parts: states made and checked together, errors that say whose tensor it was,
// and all or nothing.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "../core/executor.hpp"
#include "../core/verbs.hpp"
#include "joint_state.hpp"

namespace weft {
inline namespace v1 {

namespace detail {

template <class First, class... Rest>
inline constexpr bool all_same = (std::is_same_v<First, Rest> && ...);

// A combination has gradients where all of its parts have theirs.
template <bool All, class... M>
struct joint_gradient {};
template <class... M>
struct joint_gradient<true, M...> {
  using state_gradient = joint_state<state_gradient_t<M>...>;
};

}  // namespace detail

template <class M>
concept mixer_with_gradients = mixer<M> && requires {
  typename M::cotangents;
  typename M::gradients;
  typename M::state_gradient;
};

// f(constant index) for N indices, in order.
template <std::size_t N, class F>
WEFT_INLINE void for_each_index(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f(std::integral_constant<std::size_t, I>{}), ...); }(std::make_index_sequence<N>{});
}

// The mixers and what is the same of every combination.
template <class... M>
struct mixer_parts : detail::joint_gradient<(mixer_with_gradients<M> && ...), M...> {
  static_assert(sizeof...(M) > 0, "weft: a combination has at least one mixer");
  static constexpr std::size_t count = sizeof...(M);
  static constexpr bool has_gradients = (mixer_with_gradients<M> && ...);
  using state_type = joint_state<state_t<M>...>;

  std::tuple<M...> mixers;

  mixer_parts() = default;
  mixer_parts(std::tuple<M...> m) : mixers(std::move(m)) {}  // NOLINT: implicit by design

  // Every part's state, of one shape for all or of one for each.
  state_type state(const shape& s) const { return {std::apply([&](const auto&... m) { return std::tuple<state_t<M>...>{m.state(s)...}; }, mixers)}; }
  state_type states(const std::array<shape, count>& s) const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) -> state_type {
      return {std::tuple<state_t<M>...>{std::get<I>(mixers).state(s[I])...}};
    }(std::make_index_sequence<count>{});
  }

  // Whether the contents of all parts' states make sense. Throws as theirs do.
  void check_state(const state_type& s) const {
    for_each_index<count>([&](auto i) {
      const auto& mixer = std::get<i>(mixers);
      const auto& own = std::get<i>(s.states);
      if constexpr (requires { mixer.check_state(own); }) mixer.check_state(own);
      else if constexpr (requires { own.check(); }) own.check();
    });
  }
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

// An error of part i says so: "weft: q: ..." becomes "weft: 1.q: ...". The output, its gradient and the offsets are everybody's;
// where all parts read the same inputs, only the states are their own.
template <class F>
void in_part(std::size_t i, F&& f, bool one_input = false) {
  try {
    f();
  } catch (const error& e) {
    constexpr std::string_view ours = "weft: ", apart = "weft: o: expected memory apart from ";
    std::string what = e.what();
    const auto says = [&](std::string_view start) { return what.starts_with(start); };
    const bool common = one_input ? !says("weft: state") && !says("weft: d_state") : says("weft: o: ") || says("weft: d_o: ") || says("weft: cu_seqlens: ");
    if (says(apart) && !one_input) what.insert(apart.size(), std::to_string(i) + ".");
    else if (says(ours) && !common) what.insert(ours.size(), std::to_string(i) + ".");
    throw error(e.code(), what);
  }
}

// The verb that a combination was called with, for part i of it.
struct part_call {
  std::span<const index> cu_seqlens{};
  bool one_token = false;
  tape* tapes = nullptr;  // of the parts, where a scan leaves them

  template <class M>
  void operator()(cpu& executor, std::size_t i, const M& mixer, const inputs_t<M>& in, state_t<M>& state, const outputs_t<M>& out) const {
    if constexpr (mixer_with_gradients<M>)
      if (tapes) return scan(executor, mixer, in, state, out, tapes[i], cu_seqlens);
    if (one_token) step(executor, mixer, in, state, out);
    else scan(executor, mixer, in, state, out, cu_seqlens);
  }
};

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
