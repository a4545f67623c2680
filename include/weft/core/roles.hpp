// What an input broadcasts over. A policy declares its inputs once, as a struct template over a representation:
//
//   template <class Rep> struct inputs { weft::key<Rep> q, k; weft::value<Rep> v; weft::gate<Rep> beta; };
//
// and the engine reads that struct as views of memory (views<T>), as numbers of one token and channel (lanes<R>) or as views
// that gradients are written to (gradient_views<T>).
#pragma once
#include <cstddef>
#include <concepts>
#include <type_traits>

#include "dtype.hpp"
#include "members.hpp"
#include "output.hpp"
#include "view.hpp"

namespace weft {
inline namespace v1 {

enum class per_head { key, value };        // which head count a tensor has; value head j uses key head j / (HV / H)
enum class width { one, key_dim, value_dim };

struct role {
  bool time = true;               // [batch, time, ...], or a constant of the head
  per_head heads = per_head::value;
  weft::width width = weft::width::one;
  bool wide = false;              // kept in the accumulating type even where activations are 16 bits
  bool micro = false;             // time counts micro-steps

  constexpr int rank() const { return (time ? 2 : 0) + 1 + (width == weft::width::one ? 0 : 1); }
};

// A view with a role. Assigned from any view or array of fitting element type and rank.
template <role Role, class T>
struct input : view<const T, Role.rank()> {
  static constexpr weft::role role = Role;
  using base = view<const T, Role.rank()>;

  input() = default;
  template <class V>
    requires(!std::same_as<std::remove_cvref_t<V>, any_member> && std::convertible_to<V, base>)
  input(V&& v) : base(static_cast<V&&>(v)) {}  // NOLINT: implicit by design
  template <class V>
    requires(!std::convertible_to<V, base> && requires { std::remove_cvref_t<V>::rank; })
  input(V&&) {  // NOLINT: only says what is wrong
    static_assert(sizeof(V) == 0, "weft: an input takes a view of its role's rank and of the mixer's storage type (gates: of the accumulating type)");
  }
};

namespace roles {
inline constexpr role key{.heads = per_head::key, .width = width::key_dim};
inline constexpr role value{.width = width::value_dim};
inline constexpr role gate{.wide = true};
inline constexpr role key_gate{.width = width::key_dim, .wide = true};
inline constexpr role value_gate{.width = width::value_dim, .wide = true};
inline constexpr role head{.time = false, .wide = true};
inline constexpr role head_key{.time = false, .width = width::key_dim, .wide = true};
inline constexpr role micro_key{.heads = per_head::key, .width = width::key_dim, .micro = true};
inline constexpr role micro_value{.width = width::value_dim, .micro = true};
inline constexpr role micro_gate{.wide = true, .micro = true};
}  // namespace roles

// Representation 1: views of memory.
template <class T>
struct views {
  template <role Role>
  using member = input<Role, std::conditional_t<Role.wide, accumulate_t<T>, T>>;
};

// Representation 2: the numbers of one token at one channel (or at a vector of channels).
template <class R>
struct lanes {
  template <role Role>
  using member = R;
};

// Where the gradient of an input goes: a view of its role's rank, of its own or of the accumulating type. Null: not wanted.
template <role Role, class T>
struct gradient : output<std::conditional_t<Role.wide, accumulate_t<T>, T>, Role.rank()> {
  static constexpr weft::role role = Role;
  using input_type = input<Role, std::conditional_t<Role.wide, accumulate_t<T>, T>>;
  using base = output<std::conditional_t<Role.wide, accumulate_t<T>, T>, Role.rank()>;

  gradient() = default;
  template <class V>
    requires(!std::same_as<std::remove_cvref_t<V>, any_member> && std::constructible_from<base, V>)
  gradient(V&& v) : base(static_cast<V&&>(v)) {}  // NOLINT: implicit by design
};

// Representation 3: views for gradients.
template <class T>
struct gradient_views {
  template <role Role>
  using member = gradient<Role, T>;
};

// clang-format off
template <class Rep> using key = typename Rep::template member<roles::key>;                  // [B, T, H, K]
template <class Rep> using value = typename Rep::template member<roles::value>;              // [B, T, HV, V]
template <class Rep> using gate = typename Rep::template member<roles::gate>;                // [B, T, HV]
template <class Rep> using key_gate = typename Rep::template member<roles::key_gate>;        // [B, T, HV, K]
template <class Rep> using value_gate = typename Rep::template member<roles::value_gate>;    // [B, T, HV, V]
template <class Rep> using head = typename Rep::template member<roles::head>;                // [HV]
template <class Rep> using head_key = typename Rep::template member<roles::head_key>;        // [HV, K]
template <class Rep> using micro_key = typename Rep::template member<roles::micro_key>;      // [B, T n, H, K]
template <class Rep> using micro_value = typename Rep::template member<roles::micro_value>;  // [B, T n, HV, V]
template <class Rep> using micro_gate = typename Rep::template member<roles::micro_gate>;    // [B, T n, HV]
// clang-format on

}  // namespace v1
}  // namespace weft
