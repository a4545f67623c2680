// Visits the members of a small aggregate without macros or reflection.
#pragma once
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "config.hpp"

namespace weft {
inline namespace v1 {

// Converts to any member while members are counted; member types exclude it from their own converting constructors.
struct any_member {
  template <class T>
  constexpr operator T() const;  // NOLINT: implicit by design, never defined
};

namespace detail {
template <class S, std::size_t... I>
constexpr bool braces(std::index_sequence<I...>) {
  return requires { S{(static_cast<void>(I), any_member{})...}; };
}
template <class S, std::size_t N = 13>  // one more than fit, so that too many are seen
constexpr std::size_t count_members() {
  if constexpr (N == 0 || braces<S>(std::make_index_sequence<N>{})) return N;
  else return count_members<S, N - 1>();
}
}  // namespace detail

template <class S>
inline constexpr std::size_t member_count = detail::count_members<std::remove_cv_t<S>>();

// A tuple of references to the members, at most 12.
template <class S>
WEFT_HD WEFT_INLINE constexpr auto tie_members(S& s) {
  constexpr std::size_t n = member_count<S>;
  static_assert(n >= 1 && n <= 12, "weft: an inputs struct has one to twelve members");
  // clang-format off
  if constexpr (n == 1) { auto& [a] = s; return std::tie(a); }
  else if constexpr (n == 2) { auto& [a, b] = s; return std::tie(a, b); }
  else if constexpr (n == 3) { auto& [a, b, c] = s; return std::tie(a, b, c); }
  else if constexpr (n == 4) { auto& [a, b, c, d] = s; return std::tie(a, b, c, d); }
  else if constexpr (n == 5) { auto& [a, b, c, d, e] = s; return std::tie(a, b, c, d, e); }
  else if constexpr (n == 6) { auto& [a, b, c, d, e, f] = s; return std::tie(a, b, c, d, e, f); }
  else if constexpr (n == 7) { auto& [a, b, c, d, e, f, g] = s; return std::tie(a, b, c, d, e, f, g); }
  else if constexpr (n == 8) { auto& [a, b, c, d, e, f, g, h] = s; return std::tie(a, b, c, d, e, f, g, h); }
  else if constexpr (n == 9) { auto& [a, b, c, d, e, f, g, h, i] = s; return std::tie(a, b, c, d, e, f, g, h, i); }
  else if constexpr (n == 10) { auto& [a, b, c, d, e, f, g, h, i, j] = s; return std::tie(a, b, c, d, e, f, g, h, i, j); }
  else if constexpr (n == 11) { auto& [a, b, c, d, e, f, g, h, i, j, k] = s; return std::tie(a, b, c, d, e, f, g, h, i, j, k); }
  else { auto& [a, b, c, d, e, f, g, h, i, j, k, l] = s; return std::tie(a, b, c, d, e, f, g, h, i, j, k, l); }
  // clang-format on
}

// f(member, constant index) for every member; the index is a std::integral_constant, usable as a template argument.
template <class S, class F>
WEFT_HD WEFT_INLINE constexpr void for_each_member(S& s, F&& f) {
  auto members = tie_members(s);
  [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
    (f(std::get<I>(members), std::integral_constant<std::size_t, I>{}), ...);
  }(std::make_index_sequence<member_count<S>>{});
}

}  // namespace v1
}  // namespace weft
