// What the tensor-core engine must know of a policy's maps before it runs: which of q, k, c and z are inputs times numbers of
// the token. Those tiles are the inputs as they lie in memory; others are made where channels are visited one by one. Found by running the maps at compile time on symbols, so the
// maps must be constexpr; a policy whose maps are not takes the portable schedule.
#pragma once
#include "../../math/functions.hpp"
#include "../../recurrence/policy.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// A number as it depends on its inputs: on gates alone, or as a gate times one member, or otherwise.
struct symbol {
  static constexpr int of_gates = -1, other = -2;
  int member = of_gates;
  int one = of_gates, two = of_gates;  // of others: the product of two members

  constexpr symbol() = default;
  constexpr explicit symbol(double) {}
  static constexpr symbol of(int m) {
    symbol s;
    s.member = m;
    return s;
  }
  friend constexpr symbol operator-(symbol a) { return a; }
  friend constexpr symbol operator*(symbol a, symbol b) {
    if (a.member == of_gates || b.member == of_gates) return a.member == of_gates ? b : a;
    symbol s = of(other);
    if (a.member >= 0 && b.member >= 0) s.one = a.member, s.two = b.member;
    return s;
  }
  friend constexpr symbol operator/(symbol a, symbol b) { return b.member == of_gates ? a : of(other); }
  friend constexpr symbol operator+(symbol a, symbol b) { return of(a.member == b.member ? a.member : other); }
  friend constexpr symbol operator-(symbol a, symbol b) { return a + b; }
};
constexpr symbol opaque(symbol x) { return symbol::of(x.member == symbol::of_gates ? symbol::of_gates : symbol::other); }
constexpr symbol exp_(symbol x) { return opaque(x); }
constexpr symbol expm1_(symbol x) { return opaque(x); }
constexpr symbol log1p_(symbol x) { return opaque(x); }
constexpr symbol sqrt_(symbol x) { return opaque(x); }
constexpr symbol where_nonneg_(symbol x, symbol a, symbol b) { return x.member == symbol::of_gates ? a + b : symbol::of(symbol::other); }

// The members that q, k, c, p, z and the decay scale; of_gates or other where there is none.
struct structure {
  int q, k, c, p, z, g;
  int v = symbol::of_gates;  // the tile that z is made from
  int b = symbol::of_gates;  // one more input a token and channel
  bool linear = false;       // c is k times b
};

template <class P>
constexpr structure structure_of() {
  lanes_of<P, symbol> key_lane{}, value_lane{};
  const auto mark = [](auto& lane, width w) {
    for_each_member(lane, [&](symbol& s, auto m) {
      constexpr role r = role_of<P, m>;
      if (r.width == w) s = symbol::of(static_cast<int>(m));
    });
  };
  mark(key_lane, width::key_dim);
  mark(value_lane, width::value_dim);
  const key_terms<symbol> side = P{}.template key_side<symbol>(key_lane);
  const symbol z = P{}.template write<symbol>(value_lane);
  structure s{side.q.member, side.k.member, side.c.member, side.p.member, z.member, side.g.member};
  for_each_member(key_lane, [&](const symbol&, auto m) {
    constexpr role r = role_of<P, m>;
    constexpr int i = static_cast<int>(m);
    if (r.time && r.width == width::value_dim && !r.wide && s.v < 0) s.v = i;
    if (r.time && r.width == width::key_dim && r.wide && i != s.g) s.b = s.b == symbol::of_gates ? i : symbol::other;
  });
  if (s.z >= 0) s.v = s.z;
  s.linear = (side.c.one == s.k && side.c.two == s.b) || (side.c.one == s.b && side.c.two == s.k);
  return s;
}

// Options could change maps that are not static, and are not known here.
template <class P>
concept fixed_maps = std::is_empty_v<P> || requires(const lanes_of<P, symbol>& x) {
  P::template key_side<symbol>(x);
  P::template write<symbol>(x);
};
template <class P>
concept transparent = fixed_maps<P> && requires { typename std::integral_constant<int, structure_of<P>().q>; };

// Policies of the engine: decays that are numbers of the token, or one input a channel. Where channels decay they are visited
// anyway: there the writer may be made of anything a channel knows, the erase reader may have one more gate, z may be of any
// kind, and an erase may have a writer of its own.
template <class P>
constexpr bool scaled_tiles() {
  constexpr axes a = P::axes;
  if constexpr (a.normalised || (a.micro_steps && has_output<P>) || !transparent<P>) {
    return false;
  } else {
    constexpr structure s = structure_of<P>();
    constexpr bool erases = a.erase != erase::none;
    if constexpr (s.q < 0 || s.v < 0) return false;
    else if constexpr (a.decay == decay::per_channel)
      return s.g >= 0 && !a.micro_steps && s.b != symbol::other && (!erases || (s.k >= 0 && (s.c >= 0 || s.linear))) && (a.erase != erase::two_writers || (s.p >= 0 && s.z >= 0));
    else return s.z >= 0 && s.b == symbol::of_gates && s.g == symbol::of_gates && s.k >= 0 && (!erases || s.c >= 0) && a.erase != erase::two_writers && a.read == read::inclusive;
  }
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
