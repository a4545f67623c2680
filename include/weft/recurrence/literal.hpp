// The token form of a recurrence in plain scalar code: the readable specification of every policy.
// O(T K V) a head, in the accumulating type.
#pragma once
#include <cmath>
#include <vector>

#include "../core/sequences.hpp"
#include "check.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// The numbers that one token of one head offers at key channel i and value channel j; absent inputs read as 0.
template <class P, class R, class T>
lanes_of<P, R> scalar_lanes(const inputs_of<P, T>& in, const recurrence_extents& x, index b, index t, int micro, index head, index i, index j) {
  lanes_of<P, R> lane{};
  auto numbers = tie_members(lane);
  for_each_member(in, [&](const auto& v, auto at) {
    constexpr role r = std::remove_cvref_t<decltype(v)>::role;
    if (v.null()) return;
    const index h = r.heads == per_head::key ? head / (x.value_heads / x.heads) : head;
    const index row = r.micro ? t * x.micro + micro : t;
    auto& number = std::get<at>(numbers);
    if constexpr (r.time && r.width == width::one) number = static_cast<R>(v(b, row, h));
    else if constexpr (r.time) number = static_cast<R>(v(b, row, h, r.width == width::key_dim ? i : j));
    else if constexpr (r.width == width::one) number = static_cast<R>(v(h));
    else number = static_cast<R>(v(h, r.width == width::key_dim ? i : j));
  });
  return lane;
}

// As in the engine, what a policy makes of keys and values there is not kept: only gates are activated.
template <class P, class R>
void activate_lanes(const P& policy, lanes_of<P, R>& lane) {
  if constexpr (has_activate<P>) {
    lanes_of<P, R> ready = lane;
    policy.template activate<R>(ready);
    auto numbers = tie_members(lane);
    for_each_member(ready, [&](const R& x, auto i) {
      if constexpr (role_of<P, i>.width == width::one) std::get<i>(numbers) = x;
    });
  }
}

}  // namespace detail

template <class P, class T, class S>
void run_literal(const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S>& state,
                 const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  constexpr axes a = P::axes;
  const recurrence_extents x = check_recurrence(mixer, in, state, out, cu);
  const R scale = static_cast<R>(mixer.scale_for(x.key_dim));
  P policy = mixer.policy;
  if constexpr (requires { policy.bind(in); }) policy.bind(in);

  const auto K = static_cast<std::size_t>(x.key_dim), V = static_cast<std::size_t>(x.value_dim);
  std::vector<R> matrix(K * V), norm(K), erased(V), z(V), y(V);
  std::vector<key_terms<R>> side(K);

  // q, k, c, p, g, u of every channel, with q and k (and the policy's other unit keys) made unit length where asked for.
  const auto key_sides = [&](index b, index t, int micro, index h) {
    R inverse[input_count<P>];
    for_each_member(in, [&](const auto&, auto m) {
      inverse[m] = R(1);
      if constexpr (is_unit_key<P>(m))
        if (mixer.qk_l2norm) {
          R sum = 0;
          for (index i = 0; i < x.key_dim; ++i) {
            auto lane = detail::scalar_lanes<P, R, T>(in, x, b, t, micro, h, i, 0);
            const R e = std::get<m>(tie_members(lane));
            sum += e * e;
          }
          inverse[m] = R(1) / std::sqrt(sum + static_cast<R>(mixer.l2norm_eps));
        }
    });
    for (index i = 0; i < x.key_dim; ++i) {
      auto lane = detail::scalar_lanes<P, R, T>(in, x, b, t, micro, h, i, 0);
      for_each_member(lane, [&](auto& e, auto m) { e *= inverse[m]; });
      detail::activate_lanes<P, R>(policy, lane);
      side[static_cast<std::size_t>(i)] = policy.template key_side<R>(lane);
    }
  };

  for (index n = 0; n < x.sequences; ++n)
    for (index h = 0; h < x.value_heads; ++h) {
      S* const kept = state.matrix.data() + (n * x.value_heads + h) * x.key_dim * x.value_dim;
      for (std::size_t e = 0; e < K * V; ++e) matrix[e] = static_cast<R>(kept[e]);
      if constexpr (a.normalised)
        for (index i = 0; i < x.key_dim; ++i) norm[static_cast<std::size_t>(i)] = static_cast<R>(state.normaliser(n, h, i));

      const token_span tokens = tokens_of(x.time, cu, n);
      const index b = tokens.batch;
      for (index t = tokens.begin; t < tokens.end; ++t) {
        std::fill(y.begin(), y.end(), R(0));
        for (int micro = 0; micro < x.micro; ++micro) {
          key_sides(b, t, micro, h);
          for (std::size_t j = 0; j < V; ++j) {
            auto lane = detail::scalar_lanes<P, R, T>(in, x, b, t, micro, h, 0, static_cast<index>(j));
            detail::activate_lanes<P, R>(policy, lane);
            z[j] = policy.template write<R>(lane);
            erased[j] = 0;
          }
          if constexpr (a.read == read::exclusive_bonus)
            for (std::size_t i = 0; i < K; ++i)
              for (std::size_t j = 0; j < V; ++j) y[j] += side[i].q * (matrix[i * V + j] + side[i].u * side[i].k * z[j]);
          for (std::size_t i = 0; i < K; ++i) {
            const R alpha = a.decay == decay::none || micro > 0 ? R(1) : std::exp(side[i].g);
            if constexpr (a.normalised) norm[i] = alpha * norm[i] + side[i].k;
            for (std::size_t j = 0; j < V; ++j) {
              R& s = matrix[i * V + j];
              if constexpr (a.erase != erase::none && a.timing == timing::pre) erased[j] += s * side[i].c;
              if constexpr (a.decay != decay::none) s *= alpha;
              if constexpr (a.erase != erase::none && a.timing == timing::post) erased[j] += s * side[i].c;
            }
          }
          for (std::size_t i = 0; i < K; ++i)
            for (std::size_t j = 0; j < V; ++j) {
              R& s = matrix[i * V + j];
              if constexpr (a.erase == erase::tied) s += side[i].k * (z[j] - erased[j]);
              else if constexpr (a.erase == erase::two_writers) s += side[i].k * z[j] - side[i].p * erased[j];
              else s += side[i].k * z[j];
              if constexpr (a.read == read::inclusive)
                if (micro == x.micro - 1) y[j] += side[i].q * s;
            }
        }
        R denominator = R(1);
        if constexpr (a.normalised) {
          denominator = static_cast<R>(mixer.normaliser_eps);
          for (std::size_t i = 0; i < K; ++i) denominator += scale * side[i].q * norm[i];
        }
        for (std::size_t j = 0; j < V; ++j) {
          R o = scale * y[j] / denominator;
          if constexpr (has_output<P>) {
            auto lane = detail::scalar_lanes<P, R, T>(in, x, b, t, x.micro - 1, h, 0, static_cast<index>(j));
            detail::activate_lanes<P, R>(policy, lane);
            o = policy.template output<R>(lane, o);
          }
          out.o.visit([&](const auto& v) {
            using element = typename std::remove_cvref_t<decltype(v)>::element;
            v(b, t, h, static_cast<index>(j)) = static_cast<element>(o);
          });
        }
      }
      for (std::size_t e = 0; e < K * V; ++e) kept[e] = static_cast<S>(matrix[e]);
      if constexpr (a.normalised)
        for (index i = 0; i < x.key_dim; ++i) state.normaliser(n, h, i) = static_cast<S>(norm[static_cast<std::size_t>(i)]);
    }
}

}  // namespace WEFT_ISA
}  // namespace weft
