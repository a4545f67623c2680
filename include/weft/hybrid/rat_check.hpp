// Shapes of one call on RAT, checked once, and the values that validate() looks at.
#pragma once
#include "../attention/check.hpp"
#include "../core/values.hpp"
#include "rat.hpp"

namespace weft {
inline namespace WEFT_ISA {

struct rat_extents : attention_extents {  // heads: of the values and chunk states
  index groups = 0;                       // R
  index chunk = 1;
};

// Without outputs (a gradient's inputs) o is not looked at. Heads and width are the state's; batch and time those of the first tensor that is there.
template <class T>
rat_extents check_rat(const rat<T>& mixer, const typename rat<T>::inputs& in, const rat_state<accumulate_t<T>>& state,
                      const typename rat<T>::outputs& out, std::span<const index> cu, bool outputs = true) {
  using M = rat<T>;
  mixer.check();
  require(!state.chunks.keys.null() && !state.chunks.values.null() && !state.chunks.length.null() && !state.key.null() && !state.value.null() &&
              !state.held.null(),
          errc::missing, "state: expected one made by state(), got an empty value");
  rat_extents x;
  x.chunk = mixer.chunk_size;
  x.heads = x.query_heads = state.chunks.keys.extent(1);
  x.key_dim = x.value_dim = state.chunks.keys.extent(3);
  bool known = false;
  detail::each_named_input<M>(in, [&](auto, const auto& v) { detail::take_time(v, x, known); });
  if (!known) x.batch = cu.empty() ? state.chunks.keys.extent(0) : 1;
  x.groups = !in.q.null() ? in.q.extent[2] : !in.k.null() ? in.k.extent[2] : x.heads;
  require(x.groups > 0 ? x.heads % x.groups == 0 : x.heads == 0, errc::heads, "q: expected a head count that divides ", x.heads, " value heads, got ",
          x.groups);
  require(mixer.rope_base == 0 || x.key_dim % 2 == 0, errc::shape, "q: expected an even width, whose halves rope_base turns, got ", x.key_dim);
  check::tensor("q", in.q, {x.batch, x.time, x.groups, x.key_dim}, false, true);
  check::tensor("k", in.k, {x.batch, x.time, x.groups, x.key_dim}, false, true);
  check::tensor("v", in.v, {x.batch, x.time, x.heads, x.key_dim}, false, true);
  check::tensor("g", in.g, {x.batch, x.time, x.heads, x.key_dim}, false, true);
  x.sequences = check::sequences(cu, x.batch, x.time);

  const index chunks = state.chunks.capacity();
  require(x.chunk <= every_key / 4 / (chunks + 1), errc::value, "chunk_size: expected at most ", every_key / 4 / (chunks + 1), " with room for ", chunks,
          " chunks, got ", x.chunk);
  const std::array<index, 4> ends{x.sequences, x.heads, chunks, x.key_dim};
  const std::array<index, 3> pair{x.sequences, x.heads, x.key_dim};
  require(state.chunks.keys.extent() == ends, errc::shape, "state.chunk_keys: expected ", check::list(ends), ", got ", check::list(state.chunks.keys.extent()));
  require(state.chunks.values.extent() == ends, errc::shape, "state.chunk_values: expected ", check::list(ends), ", got ",
          check::list(state.chunks.values.extent()));
  require(state.key.extent() == pair, errc::shape, "state.key: expected ", check::list(pair), ", got ", check::list(state.key.extent()));
  require(state.value.extent() == pair, errc::shape, "state.value: expected ", check::list(pair), ", got ", check::list(state.value.extent()));
  require(state.chunks.length.extent(0) == x.sequences, errc::shape, "state.chunks: expected [", x.sequences, "], got [", state.chunks.length.extent(0), "]");
  require(state.held.extent(0) == x.sequences, errc::shape, "state.held: expected [", x.sequences, "], got [", state.held.extent(0), "]");
  for (index n = 0; n < x.sequences; ++n) {
    const index done = state.chunks.length(n), held = state.held(n);
    require(done >= 0 && done <= chunks, errc::value, "state.chunks: expected 0 to ", chunks, " finished chunks, got ", done, " for sequence ", n);
    require(held >= 0 && held < x.chunk, errc::value, "state.held: expected 0 to ", x.chunk - 1, " tokens of a chunk, got ", held, " for sequence ", n);
    const index more = (held + tokens_of(x, cu, n).count()) / x.chunk;
    require(more <= chunks - done, errc::capacity, "state.chunk_keys: sequence ", n, " holds ", done, " of ", chunks, " chunks; expected room for ", more,
            " more (grow() makes it), got ", chunks - done);
  }

  const auto no_state = [&](std::string_view name, const auto& v) {
    check::no_overlap("state.chunk_keys", state.chunks.keys.view(), name, v);
    check::no_overlap("state.chunk_values", state.chunks.values.view(), name, v);
    check::no_overlap("state.key", state.key.view(), name, v);
    check::no_overlap("state.value", state.value.view(), name, v);
  };
  detail::each_named_input<M>(in, no_state);
  if (outputs) out.o.visit([&](const auto& o) {
    check::result("o", o, {x.batch, x.time, x.heads, x.key_dim}, false, true);
    x.output_is_query = check::same_view(o, in.q) && !o.null();
    x.output_is_value = check::same_view(o, in.v) && !o.null();
    if (!x.output_is_query) check::no_overlap("o", o, "q", in.q);
    if (!x.output_is_value) check::no_overlap("o", o, "v", in.v);
    check::no_overlap("o", o, "k", in.k);
    check::no_overlap("o", o, "g", in.g);
    no_state("o", o);
  });
  return x;
}

// Throws errc::value naming the first tensor with a NaN, an infinity or a growing decay. Reads every element once.
template <class T>
void run_validate(const rat<T>& mixer, const typename rat<T>::inputs& in) {
  mixer.check();
  detail::each_named_input<rat<T>>(in, [](std::string_view name, const auto& v) { detail::require_finite(name, v, name == "g"); });
}

}  // namespace WEFT_ISA
}  // namespace weft
