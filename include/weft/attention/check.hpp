// Shapes of one call on attention, checked once, and the values that validate() looks at.
#pragma once
#include <cmath>

#include "../core/values.hpp"
#include "attention.hpp"
#include "list_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class View>
void take_time(const View& v, attention_extents& x, bool& known) {
  if (v.null() || known) return;
  x.batch = v.extent[0];
  x.time = v.extent[1];
  known = true;
}

template <class M>
void check_settings(const M& mixer) {
  require(mixer.softcap >= 0 && std::isfinite(mixer.softcap), errc::value, "softcap: expected 0 (none) or a positive, finite number, got ", mixer.softcap);
  require(!mixer.scale || std::isfinite(*mixer.scale), errc::value, "scale: expected a finite number, got ", mixer.scale.value_or(0));
  mixer.select.check();
}

// The new keys and values against the cache: everything that appending needs. x.batch and x.time are known.
template <class M, class Cache>
void check_tokens(const M& mixer, const typename M::inputs& in, const Cache& cache, std::span<const index> cu, attention_extents& x) {
  const index length = cache.length.extent(0), capacity = cache.capacity();
  check::tensor("k", in.k, {x.batch, x.time, x.heads, x.key_dim}, false, true);
  check::tensor("v", in.v, {x.batch, x.time, x.heads, x.value_dim}, false, true);
  x.sequences = check::sequences(cu, x.batch, x.time);
  require(cache.keys.extent(0) == x.sequences, errc::shape, "state.keys: expected ", x.sequences, " sequences, got ", cache.keys.extent(0));
  require(cache.values.extent() == std::array<index, 4>{x.sequences, x.heads, capacity, x.value_dim}, errc::shape, "state.values: expected ",
          check::list(std::array<index, 4>{x.sequences, x.heads, capacity, x.value_dim}), ", got ", check::list(cache.values.extent()));
  require(length == x.sequences, errc::shape, "state.length: expected [", x.sequences, "], got [", length, "]");
  x.slots = cache_slots(capacity, mixer.select.retained());
  for (index n = 0; n < x.sequences; ++n) {
    const index held = cache.held(n), more = tokens_of(x, cu, n).count();
    require(held >= 0 && (x.slots.ring ? held <= every_key / 2 : held <= capacity), errc::value, "state.length: expected 0 to ",
            x.slots.ring ? every_key / 2 : capacity, " tokens, got ", held, " for sequence ", n);
    require(x.slots.ring || more <= capacity - held, errc::capacity, "state.keys: sequence ", n, " holds ", held, " of ", capacity,
            " tokens; expected room for ", more, " more (grow() makes it)");
  }
  for (const auto& part : {check::operand("state.keys", cache.keys.view()), check::operand("state.values", cache.values.view())}) {
    check::no_overlap(part, {"k", in.k});
    check::no_overlap(part, {"v", in.v});
  }
}

template <class M, class Cache>
attention_extents start_of_check(const M& mixer, const Cache& cache) {
  check_settings(mixer);
  require(!cache.keys.null() && !cache.values.null() && !cache.length.null(), errc::missing,
          "state: expected one made by state(), got an empty value");
  attention_extents x;
  x.heads = cache.keys.extent(1);
  x.key_dim = cache.keys.extent(3);
  x.value_dim = cache.values.extent(3);
  return x;
}

}  // namespace detail

// Head count of keys and both widths are the state's; batch and time those of the first tensor that is there.
// What lies on a device is not looked at: lengths are what the host knows, a caller's lists are taken as they are.
template <class M, class Cache>
attention_extents check_attention(const M& mixer, const typename M::inputs& in, const Cache& cache, const typename M::outputs& out,
                                  std::span<const index> cu) {
  attention_extents x = detail::start_of_check(mixer, cache);
  bool known = false;
  detail::take_time(in.q, x, known);
  detail::take_time(in.k, x, known);
  detail::take_time(in.v, x, known);
  if (!known) x.batch = cu.empty() ? cache.keys.extent(0) : 1;
  x.query_heads = !in.q.null() ? in.q.extent[2] : !out.o.null() ? out.o.extent[2] : x.heads;
  require(x.heads > 0 ? x.query_heads % x.heads == 0 : x.query_heads == 0, errc::heads, "q: expected a multiple of ", x.heads,
          " key heads, got ", x.query_heads, " query heads");
  check::tensor("q", in.q, {x.batch, x.time, x.query_heads, x.key_dim}, false, true);
  check::tensor("sink", in.sink, {x.query_heads}, true, false);
  detail::check_tokens(mixer, in, cache, cu, x);
  check::no_overlap("state.keys", cache.keys.view(), "q", in.q);
  check::no_overlap("state.values", cache.values.view(), "q", in.q);

  check::result("lse", out.lse, {x.batch, x.time, x.query_heads}, true, false);
  out.o.visit([&](const auto& o) {
    check::result("o", o, {x.batch, x.time, x.query_heads, x.value_dim}, false, true);
    x.output_is_query = check::same_view(o, in.q) && !o.null();
    x.output_is_value = check::same_view(o, in.v) && !o.null();
    if (!x.output_is_query) check::no_overlap("o", o, "q", in.q);
    if (!x.output_is_value) check::no_overlap("o", o, "v", in.v);
    check::no_overlap("o", o, "k", in.k);
    check::no_overlap("o", o, "sink", in.sink);
    check::no_overlap("o", o, "state.keys", cache.keys.view());
    check::no_overlap("o", o, "state.values", cache.values.view());
    check::no_overlap("lse", out.lse, "o", o);
  });
  check::no_overlap("lse", out.lse, "q", in.q);
  check::no_overlap("lse", out.lse, "k", in.k);
  check::no_overlap("lse", out.lse, "v", in.v);
  check::no_overlap("lse", out.lse, "sink", in.sink);
  check::no_overlap("lse", out.lse, "state.keys", cache.keys.view());
  check::no_overlap("lse", out.lse, "state.values", cache.values.view());
  if constexpr (list_selector<decltype(mixer.select)>) detail::check_lists(mixer, in, cache, out, cu, x);
  else require(out.idx.null(), errc::value, "idx: expected a null view where nothing is chosen by score, got one");
  return x;
}

// Throws errc::value naming the first setting that means nothing, or the first tensor with a NaN or an infinity (sinks may be -inf: none).
// Reads every element once.
template <class T, class Selector>
void run_validate(const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in) {
  detail::check_settings(mixer);
  detail::require_numbers("q", in.q, false);
  detail::require_numbers("k", in.k, false);
  detail::require_numbers("v", in.v, false);
  detail::require_numbers("sink", in.sink, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
