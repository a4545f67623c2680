// The state of mixers that work together: the tuple of their states, itself a state like every other. Its parts are theirs,
// named by the mixer's place: "0.matrix", "1.keys".
#pragma once
#include <initializer_list>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../core/state.hpp"

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

}  // namespace detail

template <class... S>
struct joint_state {
  std::tuple<S...> states;

  auto parts() { return parts_of(states, std::index_sequence_for<S...>{}); }
  auto parts() const { return parts_of(states, std::index_sequence_for<S...>{}); }
  joint_state like() const {
    return {std::apply([](const auto&... s) { return std::tuple<S...>{s.like()...}; }, states)};
  }
  WEFT_INLINE joint_state gather(std::span<const index> rows) const {
    return {std::apply([&](const auto&... s) { return std::tuple<S...>{s.gather(rows)...}; }, states)};
  }
  WEFT_INLINE joint_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }

 private:
  template <class States, std::size_t... I>
  static auto parts_of(States& s, std::index_sequence<I...>) {
    return std::tuple_cat(detail::prefixed_parts<I>(std::get<I>(s))...);
  }
};

}  // namespace v1
}  // namespace weft
