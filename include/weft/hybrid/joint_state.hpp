// The state of mixers that work together: the tuple of their states, itself a state like every other. Its parts are theirs,
// named by the mixer's place: "0.matrix", "1.keys".
#pragma once
#include <initializer_list>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../core/zero_gradient.hpp"

namespace weft {
inline namespace v1 {

namespace detail {

// "I." before the names of a state's parts; made once a type.
template <std::size_t I, class S>
WEFT_BASELINE const char* joint_name(std::size_t which) {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    const S none{};
    for_each_part(none, [&](const auto& p) { all.push_back(std::to_string(I) + "." + p.name); });
    return all;
  }();
  return names[which].c_str();
}

template <std::size_t I, class S>
auto prefixed_parts(S& s) {
  return std::apply(
      [](auto... p) {
        std::size_t i = 0;
        return std::tuple<decltype(p)...>{part{joint_name<I, std::remove_const_t<S>>(i++), p.data}...};
      },
      s.parts());
}

// The parts of all that a tuple holds.
template <class Tuple>
auto joint_parts(Tuple& all) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::tuple_cat(prefixed_parts<I>(std::get<I>(all))...);
  }(std::make_index_sequence<std::tuple_size_v<std::remove_const_t<Tuple>>>{});
}

}  // namespace detail

template <class... S>
struct joint_state {
  std::tuple<S...> states;

  joint_state() = default;
  joint_state(std::tuple<S...> s) : states(std::move(s)) {}  // NOLINT: implicit by design
  // Zeros: the gradient of a state of this many parts.
  template <class... Of>
    requires(sizeof...(Of) == sizeof...(S) && !std::is_same_v<joint_state<Of...>, joint_state>)
  explicit joint_state(const joint_state<Of...>& of)
      : states(std::apply([](const auto&... s) { return std::tuple<S...>{zero_gradient<S>(s)...}; }, of.states)) {}

  auto parts() { return detail::joint_parts(states); }
  auto parts() const { return detail::joint_parts(states); }
  joint_state like() const {
    return {std::apply([](const auto&... s) { return std::tuple<S...>{s.like()...}; }, states)};
  }
  WEFT_INLINE joint_state gather(std::span<const index> rows) const {
    return {std::apply([&](const auto&... s) { return std::tuple<S...>{s.gather(rows)...}; }, states)};
  }
  WEFT_INLINE joint_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

}  // namespace v1
}  // namespace weft
