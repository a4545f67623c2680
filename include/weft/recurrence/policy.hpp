// The contract of a recurrence policy, and what the engine reads from it.
//
// Required:  template <class Rep> struct inputs             the tensors, by role (core/roles.hpp)
//            static constexpr weft::axes axes
//            key_side<R>(lanes) -> key_terms<R>             q, k, c, p, g, u of one key channel
//            write<R>(lanes) -> R                           z of one value channel
// R is a number or a vector of them: no branch on a lane, but weft::where_nonneg, min or max. Where axes.decay is per_head or per_token, g depends on gates and
// constants of the head alone: the engine asks once for all channels.
// Optional:  static constexpr std::array names              of the inputs, for messages and files; "name?" may be null
//            activate<R>(lanes&)                            raw gates -> gates, once a token; sees gates and head constants
//            output<R>(lanes, R o) -> R                     skip and gate of one output channel
//            bind(inputs<views<T>>)                         sees which optional inputs are there
//            static constexpr int unit_keys                 so many first inputs of a key's role can be made unit length
//            static constexpr double scale                  default scale of q; key_dim^-1/2 where absent
//            static constexpr std::array limits             weft::limit{"beta", 0, 2}: what validate() admits; that decays
//                                                           do not grow it sees from key_side
// A policy may have data members (options); its functions may be static or const. It holds no loop.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "axes.hpp"
#include "../core/roles.hpp"

namespace weft {
inline namespace v1 {

template <class P, class T>
using inputs_of = typename P::template inputs<views<T>>;
template <class P, class R>
using lanes_of = typename P::template inputs<lanes<R>>;

// clang-format off
template <class P> concept has_inputs = requires { typename lanes_of<P, float>; typename inputs_of<P, float>; };
template <class P> concept has_axes = requires { { P::axes } -> std::convertible_to<weft::axes>; };
template <class P> concept has_key_side = requires(const P& p, const lanes_of<P, float>& x) { { p.template key_side<float>(x) } -> std::same_as<key_terms<float>>; };
template <class P> concept has_write = requires(const P& p, const lanes_of<P, float>& x) { { p.template write<float>(x) } -> std::same_as<float>; };
// clang-format on
template <class P>
concept recurrence_policy = has_inputs<P> && has_axes<P> && has_key_side<P> && has_write<P>;

template <class P>
inline constexpr std::size_t input_count = member_count<lanes_of<P, float>>;

template <class P>
inline constexpr bool has_activate = requires(const P& p, lanes_of<P, float>& x) { p.template activate<float>(x); };
template <class P>
inline constexpr bool has_output = requires(const P& p, const lanes_of<P, float>& x, float o) { p.template output<float>(x, o); };

template <class P>
constexpr int unit_keys() {
  if constexpr (requires { P::unit_keys; }) return P::unit_keys;
  else return 0;
}

// Whether `names`, where a policy has them, are those of its inputs.
template <class P>
constexpr bool names_fit() {
  if constexpr (requires { P::names; }) return std::size(P::names) == input_count<P>;
  else return true;
}

// The range that an input's numbers belong in.
struct limit {
  std::string_view name;
  double low, high;
};

// The name of input i without its mark, and whether it may be null.
struct input_name {
  std::string_view text;
  bool optional = false;
};
template <class P>
constexpr input_name name_of(std::size_t i) {
  if constexpr (requires { P::names; }) {
    std::string_view name = P::names[i];
    const bool optional = name.ends_with('?');
    return {optional ? name.substr(0, name.size() - 1) : name, optional};
  } else {
    constexpr std::string_view ordinal[] = {"input 1", "input 2", "input 3", "input 4",  "input 5",  "input 6",
                                            "input 7", "input 8", "input 9", "input 10", "input 11", "input 12"};
    return {ordinal[i], false};
  }
}

// The role of input i, by member.
template <class P, std::size_t I, class T = float>
inline constexpr role role_of = std::remove_cvref_t<std::tuple_element_t<I, decltype(tie_members(std::declval<inputs_of<P, T>&>()))>>::role;

// Whether every limit is of an input that `names` has.
template <class P>
constexpr bool limits_fit() {
  bool fit = true;
  if constexpr (requires { P::limits; })
    for (const limit& l : P::limits) {
      bool found = false;
      for (std::size_t i = 0; i < input_count<P>; ++i) found |= name_of<P>(i).text == l.name;
      fit &= found && l.low <= l.high;
    }
  return fit;
}

// Whether input i, by member, is one of the first unit_keys whose role is a key's (micro-steps' too). Of no input: false.
template <class P>
constexpr bool is_unit_key(std::ptrdiff_t i) {
  std::ptrdiff_t at = 0;
  int left = unit_keys<P>();
  bool unit = false;
  const auto look = [&](const role& r) {
    if (r.heads == per_head::key && r.width == width::key_dim && left-- > 0) unit |= at == i;
    ++at;
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) { (look(role_of<P, I>), ...); }(std::make_index_sequence<input_count<P>>{});
  return unit;
}

}  // namespace v1
}  // namespace weft
