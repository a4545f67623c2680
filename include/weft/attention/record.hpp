// What a scan of attention leaves on a tape, and the shapes of its gradients, checked once.
#pragma once
#include <vector>

#include "../core/tape.hpp"
#include "check.hpp"

namespace weft {
inline namespace v1 {

// Linear in the tokens: the results, and the keys and values that the scan found in the cache.
template <class T, class Selector>
struct attention_record {
  using R = accumulate_t<T>;
  bool filled = false;               // not while a scan has begun and not ended
  std::array<index, 6> extents{};    // batch, time, key heads, query heads, key dim, value dim
  std::vector<index> cu_seqlens;
  cache_slots slots;
  attention<T, Selector> mixer;
  bool sink = false;
  key_value_cache<T> before;         // the slots in use, as many for every sequence
  array<R, 4> o;                     // [B, T, HQ, V]
  array<R, 3> lse;                   // [B, T, HQ]
  array<std::int32_t, 4> lists;      // [B, T, HQ, width], of a selector by lists: what was read, ended by -1

  std::size_t bytes() const { return state_bytes(before) + array_bytes(o, lse, lists); }
};

}  // namespace v1

inline namespace WEFT_ISA {

inline std::array<index, 6> record_extents(const attention_extents& x) { return {x.batch, x.time, x.heads, x.query_heads, x.key_dim, x.value_dim}; }

namespace detail {

// Zeros only where the extents are new.
template <class T, int Rank>
void fit(array<T, Rank>& a, const std::type_identity_t<std::array<index, Rank>>& extents) {
  if (a.null() || a.extent() != extents) a = array<T, Rank>(extents);
}

// Everything but the results, which the scan writes into it.
template <class T, class Selector>
void start_record(attention_record<T, Selector>& r, const attention<T, Selector>& mixer, const attention_extents& x, const key_value_cache<T>& cache,
                  bool sink, std::span<const index> cu) {
  r.filled = false;
  r.extents = record_extents(x);
  r.cu_seqlens.assign(cu.begin(), cu.end());
  r.slots = x.slots;
  r.mixer = mixer;
  r.sink = sink;
  index used = 0;
  for (index n = 0; n < x.sequences; ++n) used = std::max(used, std::min<index>(cache.length(n), x.slots.slots));
  fit(r.before.keys, {x.sequences, x.heads, used, x.key_dim});
  fit(r.before.values, {x.sequences, x.heads, used, x.value_dim});
  fit(r.before.length, {x.sequences});
  fit(r.o, {x.batch, x.time, x.query_heads, x.value_dim});
  fit(r.lse, {x.batch, x.time, x.query_heads});
  if constexpr (scored_selector<Selector>) {
    fit(r.lists, {x.batch, x.time, x.query_heads, mixer.select.topk});
  } else if constexpr (list_selector<Selector>) {
    fit(r.lists, {x.batch, x.time, x.query_heads, mixer.select.width(0)});
    for (index i = 0; i < x.batch * x.time * x.query_heads; ++i) {
      const index h = i % x.query_heads, t = i / x.query_heads % x.time, b = i / x.query_heads / x.time, width = r.lists.extent(3);
      const auto given = mixer.select.given(b, t, h, x.time, x.query_heads);
      std::fill(std::copy(given.begin(), given.end(), r.lists.data() + i * width), r.lists.data() + (i + 1) * width, -1);
    }
  }
  for (index i = 0; i < x.sequences * x.heads; ++i) {
    std::copy_n(cache.keys.data() + i * x.slots.slots * x.key_dim, used * x.key_dim, r.before.keys.data() + i * used * x.key_dim);
    std::copy_n(cache.values.data() + i * x.slots.slots * x.value_dim, used * x.value_dim, r.before.values.data() + i * used * x.value_dim);
  }
  std::copy_n(cache.length.data(), x.sequences, r.before.length.data());
}

template <class Selector>
bool same_selection(const Selector& a, const Selector& b) {
  if constexpr (std::equality_comparable<Selector>) return a == b;
  else return true;
}

// The options that the scan had.
template <class T, class Selector>
void check_options(const attention<T, Selector>& mixer, const attention<T, Selector>& scanned, index key_dim) {
  require(mixer.scale_for(key_dim) == scanned.scale_for(key_dim), errc::value, "tape: expected one of a scan with scale ", mixer.scale_for(key_dim), ", got ",
          scanned.scale_for(key_dim));
  require(mixer.softcap == scanned.softcap, errc::value, "tape: expected one of a scan with softcap ", mixer.softcap, ", got ", scanned.softcap);
  require(mixer.causal == scanned.causal, errc::value, "tape: expected one of a scan ", mixer.causal ? "with" : "without", " causality, got the other");
  require(same_selection(mixer.select, scanned.select), errc::value, "tape: expected one of a scan with the same selector, got one with other options");
}

}  // namespace detail

// Checks a vjp's arguments against the tape's record. An empty d_state is a gradient of zero, and none is wanted.
template <class T, class Selector>
attention_extents check_vjp(const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, const attention_record<T, Selector>& record,
                            const typename attention<T, Selector>::cotangents& d_out, const typename attention<T, Selector>::state_gradient& d_state,
                            const typename attention<T, Selector>::gradients& d_in) {
  const auto& e = record.extents;
  attention_extents x;
  x.batch = e[0], x.time = e[1], x.heads = e[2], x.query_heads = e[3], x.key_dim = e[4], x.value_dim = e[5];
  x.sequences = record.before.length.extent(0);
  x.slots = record.slots;

  // What the inputs say that the scan was.
  attention_extents given = x;
  if (!in.k.null()) given.heads = in.k.extent[2], given.batch = in.k.extent[0], given.time = in.k.extent[1], given.key_dim = in.k.extent[3];
  if (!in.v.null()) given.value_dim = in.v.extent[3];
  if (!in.q.null()) given.query_heads = in.q.extent[2], given.batch = in.q.extent[0], given.time = in.q.extent[1], given.key_dim = in.q.extent[3];
  require(record_extents(given) == e, errc::value, "tape: expected one of a scan over ", check::list(record_extents(given)),
          " (batch, time, key heads, query heads, key dim, value dim), got ", check::list(e));
  require(record.sink == !in.sink.null(), errc::value, "tape: expected one of a scan ", record.sink ? "without" : "with", " sink, got the other");
  detail::check_options(mixer, record.mixer, x.key_dim);
  const std::array queries{x.batch, x.time, x.query_heads, x.key_dim}, keys{x.batch, x.time, x.heads, x.key_dim},
      values{x.batch, x.time, x.heads, x.value_dim}, results{x.batch, x.time, x.query_heads, x.value_dim};
  check::tensor("q", in.q, queries, false, true);
  check::tensor("k", in.k, keys, false, true);
  check::tensor("v", in.v, values, false, true);
  check::tensor("sink", in.sink, {x.query_heads}, true, false);
  d_out.o.visit([&](const auto& v) { check::tensor("d_o", v, results, true, true); });
  d_out.lse.visit([&](const auto& v) { check::tensor("d_lse", v, {x.batch, x.time, x.query_heads}, true, false); });

  check::gradient_places places;
  if (!d_state.keys.null() || !d_state.values.null()) {
    const std::array k{x.sequences, x.heads, x.slots.slots, x.key_dim}, v{x.sequences, x.heads, x.slots.slots, x.value_dim};
    require(!d_state.keys.null() && d_state.keys.extent() == k, errc::shape, "d_state.keys: expected ", check::list(k), ", got ",
            check::list(d_state.keys.extent()));
    require(!d_state.values.null() && d_state.values.extent() == v, errc::shape, "d_state.values: expected ", check::list(v), ", got ",
            check::list(d_state.values.extent()));
    places.write(check::operand("d_state.keys", d_state.keys.view()));
    places.write(check::operand("d_state.values", d_state.values.view()));
  }
  for (const check::operand& v : {check::operand("q", in.q), check::operand("k", in.k), check::operand("v", in.v), check::operand("sink", in.sink)}) places.read(v);
  d_out.o.visit([&](const auto& v) { places.read(check::operand("d_o", v)); });
  d_out.lse.visit([&](const auto& v) { places.read(check::operand("d_lse", v)); });
  const auto place = [&](std::string_view name, const auto& gradient, const auto& extents, bool unit_last) {
    gradient.visit([&](const auto& v) {
      if (v.null()) return;
      check::result(name, v, extents, true, unit_last);
      places.write(check::operand(name, v));
    });
  };
  place("d_q", d_in.q, queries, true);
  place("d_k", d_in.k, keys, true);
  place("d_v", d_in.v, values, true);
  require(d_in.sink.null() || record.sink, errc::missing, "d_sink: expected a null view beside an absent input");
  place("d_sink", d_in.sink, std::array{x.query_heads}, false);
  return x;
}

}  // namespace WEFT_ISA
}  // namespace weft
