// Shapes of one call on Aaren, checked once, and the values that validate() looks at.
#pragma once
#include "../core/values.hpp"
#include "../math/softmax_state.hpp"
#include "aaren.hpp"
#include "check.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Without outputs (a gradient's inputs) o is not looked at. Heads and value width are the state's, the key width is k's; batch and time those of the first tensor that is there.
template <class T>
attention_extents check_aaren(const aaren<T>& mixer, const typename aaren<T>::inputs& in, const aaren_state<accumulate_t<T>>& state,
                              const typename aaren<T>::outputs& out, std::span<const index> cu, bool outputs = true) {
  require(!mixer.scale || std::isfinite(*mixer.scale), errc::value, "scale: expected a finite number, got ", mixer.scale.value_or(0));
  require(!state.m.null() && !state.c.null() && !state.a.null(), errc::missing, "state: expected one made by state(), got an empty value");
  attention_extents x;
  x.heads = x.query_heads = state.a.extent(1);
  x.value_dim = state.a.extent(2);
  x.key_dim = !in.k.null() ? in.k.extent[3] : in.q.null() ? 0 : in.q.extent[1];
  bool known = false;
  detail::take_time(in.k, x, known);
  detail::take_time(in.v, x, known);
  if (!known) x.batch = cu.empty() ? state.a.extent(0) : 1;
  check::tensor("q", in.q, {x.heads, x.key_dim}, false, true);
  check::tensor("k", in.k, {x.batch, x.time, x.heads, x.key_dim}, false, true);
  check::tensor("v", in.v, {x.batch, x.time, x.heads, x.value_dim}, false, true);
  x.sequences = check::sequences(cu, x.batch, x.time);
  const std::array<index, 2> rows{x.sequences, x.heads};
  const std::array<index, 3> sums{x.sequences, x.heads, x.value_dim};
  require(state.m.extent() == rows, errc::shape, "state.m: expected ", check::list(rows), ", got ", check::list(state.m.extent()));
  require(state.c.extent() == rows, errc::shape, "state.c: expected ", check::list(rows), ", got ", check::list(state.c.extent()));
  require(state.a.extent() == sums, errc::shape, "state.a: expected ", check::list(sums), ", got ", check::list(state.a.extent()));

  const auto no_state = [&](std::string_view name, const auto& v) {
    check::no_overlap("state.m", state.m.view(), name, v);
    check::no_overlap("state.c", state.c.view(), name, v);
    check::no_overlap("state.a", state.a.view(), name, v);
  };
  detail::each_named_input<aaren<T>>(in, no_state);
  if (outputs) out.o.visit([&](const auto& o) {
    check::result("o", o, {x.batch, x.time, x.heads, x.value_dim}, false, true);
    x.output_is_value = check::same_view(o, in.v) && !o.null();
    if (!x.output_is_value) check::no_overlap("o", o, "v", in.v);
    check::no_overlap("o", o, "q", in.q);
    check::no_overlap("o", o, "k", in.k);
    no_state("o", o);
  });
  return x;
}

// Throws errc::value naming the first tensor with a NaN or an infinity. Reads every element once.
template <class T>
void run_validate(const aaren<T>&, const typename aaren<T>::inputs& in) {
  detail::each_named_input<aaren<T>>(in, [](std::string_view name, const auto& v) { detail::require_finite(name, v); });
}

// One token at a time in plain scalar code: the readable specification.
template <class T>
void run_literal(const aaren<T>& mixer, const typename aaren<T>::inputs& in, aaren_state<accumulate_t<T>>& state, const typename aaren<T>::outputs& out,
                 std::span<const index> cu) {
  using R = accumulate_t<T>;
  const attention_extents x = check_aaren(mixer, in, state, out, cu);
  const R scale = static_cast<R>(mixer.scale_for(x.key_dim));
  for (index n = 0; n < x.sequences; ++n)
    for (index h = 0; h < x.heads; ++h) {
      const token_span tokens = tokens_of(x, cu, n);
      for (index t = tokens.begin; t < tokens.end; ++t) {
        R score = 0;
        for (index i = 0; i < x.key_dim; ++i) score += static_cast<R>(in.q(h, i)) * static_cast<R>(in.k(tokens.batch, t, h, i));
        const softmax_weights<R> w(state.m(n, h), scale * score);
        state.m(n, h) = w.m;
        state.c(n, h) = w.left * state.c(n, h) + w.right;
        out.o.visit([&](const auto& o) {
          for (index i = 0; i < x.value_dim; ++i) {
            R& a = state.a(n, h, i);
            a = w.left * a + w.right * static_cast<R>(in.v(tokens.batch, t, h, i));
            o(tokens.batch, t, h, i) = static_cast<typename std::remove_cvref_t<decltype(o)>::element>(softmax_state<R>{w.m, state.c(n, h), a}.output());
          }
        });
      }
    }
}

}  // namespace WEFT_ISA
}  // namespace weft
