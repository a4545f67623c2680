// Where a policy meets the engine: reads the inputs of a few tokens of one head through the policy's maps into a chunk's
// canonical rows, and writes results through its output hook. The only code of the CPU engine that knows a policy.
#pragma once
#include "../../math/functions.hpp"
#include "../../recurrence/check.hpp"
#include "recurrence_chunk.hpp"

namespace weft {
inline namespace WEFT_ISA {

// What the engine asks of a mixer's inputs, without its type: one engine serves every policy of the same axes.
// Rows are micro-steps (tokens, where there are none).
template <class R>
struct token_source {
  const void* self = nullptr;
  void (*load)(const void*, const chunk<R>&, index b, index h, index row, int n, index column, index columns) = nullptr;
  void (*store)(const void*, const chunk<R>&, const R* y, index ldy, index b, index h, index row, int n, index column, index columns) = nullptr;
  void (*prefetch)(const void*, index b, index h, index row, int n, int part, int parts) = nullptr;
};

template <class P, class T, class S>
class policy_source {
  using mixer_type = recurrence<P, T, S>;
  using R = accumulate_t<T>;
  using V = simd<R>;
  static constexpr axes A = P::axes;
  static constexpr int W = V::width;
  template <std::size_t I>
  static constexpr role role_at = role_of<P, I, T>;
  template <std::size_t I>
  using element = std::conditional_t<role_at<I>.wide, R, T>;

 public:
  policy_source(const mixer_type& mixer, const typename mixer_type::inputs& in, const typename mixer_type::outputs& out, const recurrence_extents& x)
      : in_(in), out_(out), extents_(x), policy_(mixer.policy), scale_(static_cast<R>(mixer.scale_for(x.key_dim))),
        epsilon_(static_cast<R>(mixer.l2norm_eps)), unit_(mixer.qk_l2norm), group_(x.heads > 0 ? x.value_heads / x.heads : 1) {
    if constexpr (requires { policy_.bind(in); }) policy_.bind(in);
  }

  token_source<R> source() const {
    return {.self = this,
            .load = [](const void* s, const chunk<R>& c, index b, index h, index row, int n, index column, index columns) {
              static_cast<const policy_source*>(s)->load_rows(c, b, h, row, n, column, columns);
            },
            .store = [](const void* s, const chunk<R>& c, const R* y, index ldy, index b, index h, index row, int n, index column, index columns) {
              static_cast<const policy_source*>(s)->store_rows(c, y, ldy, b, h, row, n, column, columns);
            },
            .prefetch = [](const void* s, index b, index h, index row, int n, int part, int parts) {
              static_cast<const policy_source*>(s)->prefetch_rows(b, h, row, n, part, parts);
            }};
  }

 protected:
  // The first element of member I for this row and head, or null.
  template <std::size_t I>
  WEFT_INLINE const element<I>* row_of(index b, index h, index row) const {
    constexpr role r = role_at<I>;
    const auto& v = std::get<I>(tie_members(in_));
    if (v.null()) return nullptr;
    const index head = r.heads == per_head::key ? h / group_ : h;
    if constexpr (!r.time) return v.data + head * v.stride[0];
    else return v.data + b * v.stride[0] + (A.micro_steps && !r.micro ? row / extents_.micro : row) * v.stride[1] + head * v.stride[2];
  }

  template <std::size_t... I>
  WEFT_INLINE std::tuple<const element<I>*...> rows_of(index b, index h, index row, std::index_sequence<I...>) const {
    return {row_of<I>(b, h, row)...};
  }

  template <std::size_t I>
  static constexpr bool is_unit = is_unit_key<P>(I);
  static constexpr bool is_gate(const role& r) { return r.width == width::one; }

  // Gates of up to a chunk's rows as vectors over tokens: activated once, then read as numbers by the maps.
  void load_gates(const chunk<R>& c, index b, index h, index row, int n) const {
    const index padded = (c.tokens + W - 1) / W * W;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ([&] {
        if constexpr (is_gate(role_at<I>)) {
          R* const g = c.gates + static_cast<index>(I) * padded;
          for (int t = 0; t < n; ++t) {
            const auto* p = row_of<I>(b, h, row + t);
            g[t] = p ? static_cast<R>(*p) : R(0);
          }
          std::fill(g + n, g + padded, R(0));
        }
      }(), ...);
    }(std::make_index_sequence<input_count<P>>{});
    if constexpr (has_activate<P> || chunk_traits<A>::scalar) {
      for (index t = 0; t < n; t += W) {
        lanes_of<P, V> lane{};
        for_each_member(lane, [&](V& x, auto i) {
          if constexpr (is_gate(role_at<i>)) x = V::load(c.gates + static_cast<index>(i()) * padded + t);
          else x = V(R(0));
        });
        if constexpr (has_activate<P>) {
          policy_.template activate<V>(lane);
          for_each_member(lane, [&](const V& x, auto i) {
            if constexpr (is_gate(role_at<i>)) x.store(c.gates + static_cast<index>(i()) * padded + t);
          });
        }
        if constexpr (chunk_traits<A>::scalar) weft::exp(policy_.template key_side<V>(lane).g).store(c.alpha + t);
      }
      if constexpr (chunk_traits<A>::scalar) {
        if constexpr (A.micro_steps)  // the decay acts once a token, before its first micro-step
          for (int t = 0; t < n; ++t)
            if ((row + t) % extents_.micro != 0) c.alpha[t] = R(1);
        std::fill(c.alpha + n, c.alpha + c.tokens, R(1));
      }
    }
  }

  // What the maps see of one token at channel i: its gates, and the members of width Width (count of them, or a whole
  // vector); members of the other width read as 0.
  template <width Width, bool Whole, std::size_t... I>
  WEFT_INLINE lanes_of<P, V> lanes_at(const R* gates, index padded, const std::tuple<const element<I>*...>& rows, const R* inverse, index i, index count,
                                      std::index_sequence<I...>) const {
    const auto member = [&]<std::size_t M>(std::integral_constant<std::size_t, M>) {
      constexpr role r = role_at<M>;
      if constexpr (is_gate(r)) return V(gates[static_cast<index>(M) * padded]);
      else if constexpr (r.width != Width) return V(R(0));
      else {
        constexpr bool optional = name_of<P>(M).optional;
        const auto* p = std::get<M>(rows);
        if constexpr (optional)
          if (!p) return V(R(0));
        const V x = Whole ? weft::load(p + i) : weft::load(p + i, count);
        if constexpr (is_unit<M>) return x * V(inverse[M]);
        else return x;
      }
    };
    return {member(std::integral_constant<std::size_t, I>{})...};
  }

  // 1 / length of every unit key of this row.
  template <std::size_t I>
  WEFT_INLINE R inverse_length(const element<I>* p) const {
    if constexpr (is_unit<I>) {
      if (!unit_ || !p) return R(1);
      V sum(R(0));
      index i = 0;
      for (; i + W <= extents_.key_dim; i += W) {
        const V e = weft::load(p + i);
        sum = fma(e, e, sum);
      }
      if (i < extents_.key_dim) {
        const V e = weft::load(p + i, extents_.key_dim - i);
        sum = fma(e, e, sum);
      }
      return R(1) / std::sqrt(lane_sum(sum) + epsilon_);
    } else {
      return R(1);
    }
  }

  [[gnu::noinline]] void load_rows(const chunk<R>& target, index b, index h, index row, int n, index column, index columns) const {
    load_gates(target, b, h, row, n);
    const chunk<R> c = target;  // a copy of its own: vector stores may alias any pointer in memory
    const index padded = (c.tokens + W - 1) / W * W, key_dim = extents_.key_dim, value_dim = extents_.value_dim;
    using traits = chunk_traits<A>;
    constexpr auto all = std::make_index_sequence<input_count<P>>{};
    R* const q = c.readers + (traits::erases ? c.tokens : 0) * c.keys;
    for (int t = 0; t < n; ++t) {
      const auto rows = rows_of(b, h, row + t, all);
      const R* const gates = c.gates + t;
      R inverse[input_count<P>];
      [&]<std::size_t... I>(std::index_sequence<I...>) { ((inverse[I] = inverse_length<I>(std::get<I>(rows))), ...); }(all);
      const bool reads = !A.micro_steps || (row + t) % extents_.micro == extents_.micro - 1;
      [[maybe_unused]] const bool decays = !A.micro_steps || (row + t) % extents_.micro == 0;
      const V scale(reads ? scale_ : R(0));
      V bonus(R(0));

      const auto put = [&](index i, const key_terms<V>& k, auto keep) {
        const V qs = k.q * scale;
        const index at = t * c.keys + i;
        keep(qs).store(q + at);
        keep(k.k).store(c.writers + at);
        if constexpr (traits::erases) keep(k.c).store(c.readers + at);
        if constexpr (traits::writers == 2) keep(k.p).store(c.writers + c.tokens * c.keys + at);
        if constexpr (traits::channel) (decays ? weft::exp(keep(k.g)) : V(R(1))).store(c.alpha + at);
        if constexpr (traits::exclusive) bonus = fma(keep(qs) * keep(k.u), keep(k.k), bonus);
      };
      index i = 0;
      for (; i + W <= key_dim; i += W) {
        put(i, policy_.template key_side<V>(lanes_at<width::key_dim, true>(gates, padded, rows, inverse, i, W, all)), [](V x) { return x; });
      }
      if (i < key_dim) {  // lanes behind key_dim become zeros, whatever the policy makes of zeros
        const index count = key_dim - i;
        put(i, policy_.template key_side<V>(lanes_at<width::key_dim, false>(gates, padded, rows, inverse, i, count, all)), [count](V x) {
          R lanes[W];
          x.store(lanes);
          return weft::load(static_cast<const R*>(lanes), count);
        });
      }
      if constexpr (traits::exclusive) c.bonus[t] = lane_sum(bonus);
      for (index j = 0; j < columns; j += W) {
        const index left = value_dim - (column + j);
        R* const z = c.z + t * c.columns + j;
        if (left >= W) policy_.template write<V>(lanes_at<width::value_dim, true>(gates, padded, rows, inverse, column + j, W, all)).store(z);
        else if (left > 0) policy_.template write<V>(lanes_at<width::value_dim, false>(gates, padded, rows, inverse, column + j, left, all)).store(z);
        else V(R(0)).store(z);
      }
    }
    pad_rows(c, n, columns);
  }

  // Tokens past the end neither read, erase, write nor decay.
  void pad_rows(const chunk<R>& c, int n, index columns) const {
    using traits = chunk_traits<A>;
    if (n == c.tokens) return;
    const index from = n * c.keys, to = c.tokens * c.keys;
    for (int r = 0; r < (traits::erases ? 2 : 1); ++r) std::fill(c.readers + r * to + from, c.readers + (r + 1) * to, R(0));
    for (int w = 0; w < traits::writers; ++w) std::fill(c.writers + w * to + from, c.writers + (w + 1) * to, R(0));
    if constexpr (traits::channel) std::fill(c.alpha + from, c.alpha + to, R(1));
    if constexpr (traits::exclusive) std::fill(c.bonus + n, c.bonus + c.tokens, R(0));
    for (int t = n; t < c.tokens; ++t) std::fill_n(c.z + t * c.columns, columns, R(0));
  }

  [[gnu::noinline]] void store_rows(const chunk<R>& c, const R* y, index ldy, index b, index h, index row, int n, index column, index columns) const {
    out_.o.visit([&](const auto& o) {
      constexpr auto all = std::make_index_sequence<input_count<P>>{};
      [[maybe_unused]] const index padded = (c.tokens + W - 1) / W * W;
      for (int t = 0; t < n; ++t) {
        if (A.micro_steps && (row + t) % extents_.micro != extents_.micro - 1) continue;
        const index token = A.micro_steps ? (row + t) / extents_.micro : row + t;
        auto* const p = o.data + b * o.stride[0] + token * o.stride[1] + h * o.stride[2] + column;
        const index count = std::min(columns, extents_.value_dim - column);
        const V share(A.normalised ? R(1) / c.denominator[t] : R(1));
        [[maybe_unused]] const auto rows = rows_of(b, h, row + t, all);
        const auto finish = [&](index j, auto whole) {
          V v = V::load(y + t * ldy + j);
          if constexpr (A.normalised) v *= share;
          if constexpr (has_output<P>)
            v = policy_.template output<V>(lanes_at<width::value_dim, decltype(whole)::value>(c.gates + t, padded, rows, nullptr, column + j, count - j, all), v);
          return v;
        };
        index j = 0;
        for (; j + W <= count; j += W) weft::store(p + j, finish(j, std::true_type{}));
        if (j < count) weft::store(p + j, finish(j, std::false_type{}), count - j);
      }
    });
  }

  // Asks for part `part` of the rows that come next, so that they are in L2 when load_rows comes to them.
  [[gnu::noinline]] void prefetch_rows(index b, index h, index row, int n, int part, int parts) const {
    for (int t = part; t < n; t += parts)
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        ([&] {
          constexpr role r = role_at<I>;
          if constexpr (r.time && !is_gate(r)) {
            const auto* p = row_of<I>(b, h, row + t);
            const index bytes = (r.width == width::key_dim ? extents_.key_dim : extents_.value_dim) * static_cast<index>(sizeof(*p));
            if (p)
              for (index at = 0; at < bytes; at += static_cast<index>(alignment))
                __builtin_prefetch(reinterpret_cast<const char*>(p) + at, 0, 2);
          }
        }(), ...);
      }(std::make_index_sequence<input_count<P>>{});
  }

  typename mixer_type::inputs in_;
  typename mixer_type::outputs out_;
  recurrence_extents extents_;
  P policy_;
  R scale_, epsilon_;
  bool unit_;
  index group_;
};

}  // namespace WEFT_ISA
}  // namespace weft
