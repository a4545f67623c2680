// RAT one token at a time in plain scalar code: the readable specification.
#pragma once
#include <algorithm>
#include <vector>

#include "../math/rotary.hpp"
#include "../math/softmax_state.hpp"
#include "rat_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Channels i and i + D/2 by the angle of a position.
template <class R>
void turn_literally(std::vector<R>& x, index position, double base) {
  const std::size_t half = x.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * rotary_frequency(static_cast<index>(2 * i), static_cast<index>(x.size()), base);
    const R c = static_cast<R>(std::cos(angle)), s = static_cast<R>(std::sin(angle)), a = x[i], b = x[i + half];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}

}  // namespace detail

template <class T>
void run_literal(const rat<T>& mixer, const typename rat<T>::inputs& in, rat_state<accumulate_t<T>>& state, const typename rat<T>::outputs& out,
                 std::span<const index> cu) {
  using R = accumulate_t<T>;
  const rat_extents x = check_rat(mixer, in, state, out, cu);
  const R scale = static_cast<R>(mixer.scale_for(x.key_dim));
  array<R, 4> o({x.batch, x.time, x.heads, x.key_dim});  // written last of all, since o may be the view of q or v
  std::vector<R> query(static_cast<std::size_t>(x.key_dim)), key(query), sum(query);

  for (index n = 0; n < x.sequences; ++n) {
    const token_span tokens = tokens_of(x, cu, n);
    const index first = state.chunks.length(n) * x.chunk + state.held(n);
    for (index h = 0; h < x.heads; ++h)
      for (index t = tokens.begin; t < tokens.end; ++t) {
        const index place = first + t - tokens.begin, chunk = place / x.chunk, group = h % x.groups;
        R* const k = &state.key(n, h, 0);
        R* const v = &state.value(n, h, 0);
        for (index i = 0; i < x.key_dim; ++i) {
          const R g = in.g(tokens.batch, t, h, i), keep = std::exp(g), take = -std::expm1(g);
          if (place % x.chunk == 0) k[i] = v[i] = 0;
          k[i] = keep * k[i] + take * static_cast<R>(in.k(tokens.batch, t, group, i));
          v[i] = keep * v[i] + take * static_cast<R>(in.v(tokens.batch, t, h, i));
          query[static_cast<std::size_t>(i)] = static_cast<R>(in.q(tokens.batch, t, group, i));
          key[static_cast<std::size_t>(i)] = k[i];
        }
        if (mixer.rope_base > 0) {
          detail::turn_literally(query, chunk, mixer.rope_base);
          detail::turn_literally(key, chunk, mixer.rope_base);
        }

        softmax_state<R> row;  // m and l of the row; its channels are in `sum`
        std::fill(sum.begin(), sum.end(), R(0));
        const auto read = [&](const R* a, const R* b) {
          R score = 0;
          for (index i = 0; i < x.key_dim; ++i) score += query[static_cast<std::size_t>(i)] * a[i];
          const softmax_weights<R> w(row.m, scale * score);
          row = {w.m, w.left * row.l + w.right, R(0)};
          for (index i = 0; i < x.key_dim; ++i) sum[static_cast<std::size_t>(i)] = w.left * sum[static_cast<std::size_t>(i)] + w.right * b[i];
        };
        for (index c = 0; c < chunk; ++c) read(&state.chunks.keys(n, h, c, 0), &state.chunks.values(n, h, c, 0));
        read(key.data(), v);
        for (index i = 0; i < x.key_dim; ++i) o(tokens.batch, t, h, i) = softmax_state<R>{row.m, row.l, sum[static_cast<std::size_t>(i)]}.output();

        if (place % x.chunk == x.chunk - 1) {
          std::copy_n(key.data(), x.key_dim, &state.chunks.keys(n, h, chunk, 0));
          std::copy_n(v, x.key_dim, &state.chunks.values(n, h, chunk, 0));
        }
      }
  }
  for (index n = 0; n < x.sequences; ++n) {
    const index held = state.held(n) + tokens_of(x, cu, n).count();
    state.chunks.length(n) += held / x.chunk;
    state.held(n) = held % x.chunk;
  }
  out.o.visit([&](const auto& to) {
    for (index b = 0; b < x.batch; ++b)
      for (index t = 0; t < x.time; ++t)
        for (index h = 0; h < x.heads; ++h)
          for (index i = 0; i < x.key_dim; ++i) to(b, t, h, i) = static_cast<typename std::remove_cvref_t<decltype(to)>::element>(o(b, t, h, i));
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
