// RAT and Aaren: softmax over what a recurrence has gathered, and softmax as a recurrence.
#include <weft/attention/aaren_check.hpp>
#include <weft/backend/cpu/aaren_vjp.hpp>
#include <weft/backend/cpu/rat_vjp.hpp>
#include <weft/hybrid/rat_literal.hpp>

#include "feed.hpp"

namespace ops {
namespace {

index sequences(const std::vector<index>& cu, index batch) { return cu.empty() ? batch : static_cast<index>(cu.size()) - 1; }

// The ends of chunks: [N, chunks, H, D] in files, [N, H, room, D] in the state.
template <class R, class F>
void each_end(const weft::array<R, 4>& file, weft::array<R, 4>& state, F&& f) {
  for (index n = 0; n < file.extent(0); ++n)
    for (index c = 0; c < file.extent(1); ++c)
      for (index h = 0; h < file.extent(2); ++h)
        for (index i = 0; i < file.extent(3); ++i) f(n, c, h, i, state(n, h, c, i));
}
template <class R>
void read_ends(const tensor_reader& in, std::string_view name, index chunks, weft::array<R, 4>& state) {
  if (chunks == 0 && !in.has(name)) return;
  const auto given = in.array<R, 4>(name);
  const std::array<index, 4> expected{state.extent(0), chunks, state.extent(1), state.extent(3)};
  weft::require(given.extent() == expected, weft::errc::shape, name, ": expected ", weft::check::list(expected), ", got ", weft::check::list(given.extent()));
  each_end(given, state, [&](index n, index c, index h, index i, R& x) { x = given(n, c, h, i); });
}
template <class R>
result_tensor ends_of(weft::array<R, 4>& state, index chunks) {
  weft::array<R, 4> out({state.extent(0), chunks, state.extent(1), state.extent(3)});
  each_end(out, state, [&](index n, index c, index h, index i, R& x) { out(n, c, h, i) = x; });
  return to_result(out);
}

template <class T>
results run_rat(const call& c, const weft::rat<T>& mixer) {
  using mixer_type = weft::rat<T>;
  using real = typename mixer_type::real;
  mixer.check();
  const auto q = c.in.array<T, 4>("q"), k = c.in.array<T, 4>("k"), v = c.in.array<T, 4>("v");
  const auto g = c.in.array<real, 4>("g");
  const index batch = q.extent(0), time = q.extent(1), seen = c.options.integer("t0", 0, 0);
  const std::vector<index> cu = c.in.cu_seqlens(batch, time);
  weft::require(cu.empty() || seen == 0, weft::errc::value, "t0: expected 0 for packed sequences, got ", seen);

  auto state = mixer.state({.batch = sequences(cu, batch), .heads = v.extent(2), .key_dim = q.extent(3), .value_dim = q.extent(3), .capacity = seen + time});
  const bool resumed = c.in.replace("h0_k", state.key) && c.in.replace("h0_v", state.value);
  weft::require(resumed || seen % mixer.chunk_size == 0, weft::errc::missing, "h0_k, h0_v: expected the running pair of an unfinished chunk, got nothing");
  read_ends(c.in, "cache_k", seen / mixer.chunk_size, state.chunks.keys);
  read_ends(c.in, "cache_v", seen / mixer.chunk_size, state.chunks.values);
  for (index n = 0; n < state.held.size(); ++n) state.chunks.length(n) = seen / mixer.chunk_size, state.held(n) = seen % mixer.chunk_size;

  weft::array<real, 4> o(v.extent());
  const auto inputs = [&](index first, index count) {
    return typename mixer_type::inputs{.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count),
                                       .g = g.view().slice(1, first, count)};
  };
  const auto outputs = [&](index first, index count) { return typename mixer_type::outputs{.o = o.view().slice(1, first, count)}; };
  const typename mixer_type::inputs whole{.q = q.view(), .k = k.view(), .v = v.view(), .g = g.view()};
  weft::check_rat(mixer, whole, state, {.o = o}, cu);
  results r;
  if constexpr (with_gradients<T>)
    if (c.gradients) {
      const auto d_o = c.in.array<real, 4>("do", true);
      weft::rat_gradient<real> d_state(state);
      c.in.replace("dht_k", d_state.key);
      c.in.replace("dht_v", d_state.value);
      weft::array<real, 4> dq(q.extent()), dk(k.extent()), dv(v.extent()), dg(g.extent());
      weft::tape tape;
      weft::scan(c.cpu, mixer, whole, state, {.o = o}, tape, cu);
      weft::vjp(c.cpu, mixer, whole, tape, {.o = d_o}, d_state, {.q = dq, .k = dk, .v = dv, .g = dg});
      for (const auto& [name, d] : {std::pair{"dq", &dq}, {"dk", &dk}, {"dv", &dv}, {"dg", &dg}}) r.outputs.emplace(name, to_result(*d));
      r.outputs.emplace("dh0_k", to_result(d_state.key));
      r.outputs.emplace("dh0_v", to_result(d_state.value));
      r.outputs.emplace("dcache_k", ends_of(d_state.chunk_keys, seen / mixer.chunk_size));
      r.outputs.emplace("dcache_v", ends_of(d_state.chunk_values, seen / mixer.chunk_size));
    }
  if (!c.gradients) feed(c, mixer, state, time, cu, inputs, outputs);
  warn(mixer, whole, r);
  r.outputs.emplace("o", to_result(o));
  r.outputs.emplace("ht_k", to_result(state.key));
  r.outputs.emplace("ht_v", to_result(state.value));
  if (cu.empty()) {
    r.outputs.emplace("chunk_k", ends_of(state.chunks.keys, (seen + time) / mixer.chunk_size));
    r.outputs.emplace("chunk_v", ends_of(state.chunks.values, (seen + time) / mixer.chunk_size));
  }
  return r;
}

results rat(const call& c) {
  return with_storage(c, "q", [&](auto t) {
    weft::rat<typename decltype(t)::type> mixer;
    mixer.scale = c.options.number("scale");
    mixer.chunk_size = c.options.integer("chunk_size", 1, mixer.chunk_size);
    mixer.rope_base = c.options.at_least("rope_base", 0.0, mixer.rope_base);
    return run_rat(c, mixer);
  });
}

template <class T>
results run_aaren(const call& c, const weft::aaren<T>& mixer) {
  using mixer_type = weft::aaren<T>;
  using real = typename mixer_type::real;
  const auto q = c.in.array<real, 2>("q");
  const auto k = c.in.array<T, 4>("k"), v = c.in.array<T, 4>("v");
  const index batch = k.extent(0), time = k.extent(1);
  const std::vector<index> cu = c.in.cu_seqlens(batch, time);
  auto state = mixer.state({.batch = sequences(cu, batch), .heads = k.extent(2), .value_dim = v.extent(3)});
  const int given = c.in.replace("m0", state.m) + c.in.replace("c0", state.c) + c.in.replace("a0", state.a);
  weft::require(given % 3 == 0, weft::errc::missing, "m0, c0, a0: expected all of a state or none of it, got ", given);
  weft::array<real, 4> o({batch, time, k.extent(2), v.extent(3)});
  const auto inputs = [&](index first, index count) {
    return typename mixer_type::inputs{.q = q.view(), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
  };
  const auto outputs = [&](index first, index count) { return typename mixer_type::outputs{.o = o.view().slice(1, first, count)}; };
  const typename mixer_type::inputs whole{.q = q.view(), .k = k.view(), .v = v.view()};
  weft::check_aaren(mixer, whole, state, {.o = o}, cu);
  results r;
  if constexpr (with_gradients<T>)
    if (c.gradients) {
      weft::tape tape;
      weft::scan(c.cpu, mixer, whole, state, {.o = o}, tape, cu);
      auto d_state = state;
      weft::for_each_part(d_state, [](const auto& p) { std::fill_n(p.data.data(), p.data.size(), real(0)); });
      const auto d_o = c.in.array<real, 4>("do", true);
      weft::array<real, 2> dq(q.extent());
      weft::array<real, 4> dk(k.extent()), dv(v.extent());
      weft::vjp(c.cpu, mixer, whole, tape, {.o = d_o}, d_state, {.q = dq, .k = dk, .v = dv});
      for (const auto& [name, d] : {std::pair{"dk", &dk}, {"dv", &dv}}) r.outputs.emplace(name, to_result(*d));
      r.outputs.emplace("dq", to_result(dq));
      r.outputs.emplace("dm0", to_result(d_state.m));
      r.outputs.emplace("dc0", to_result(d_state.c));
      r.outputs.emplace("da0", to_result(d_state.a));
    }
  if (!c.gradients) feed(c, mixer, state, time, cu, inputs, outputs);
  warn(mixer, whole, r);
  r.outputs.emplace("o", to_result(o));
  r.outputs.emplace("mt", to_result(state.m));
  r.outputs.emplace("ct", to_result(state.c));
  r.outputs.emplace("at", to_result(state.a));
  return r;
}

results aaren(const call& c) {
  return with_storage(c, "k", [&](auto t) {
    weft::aaren<typename decltype(t)::type> mixer;
    mixer.scale = c.options.number("scale");
    return run_aaren(c, mixer);
  });
}

}  // namespace

std::vector<op> hybrid_operators() {
  return {
      {.name = "rat", .main_input = "q", .options = {"scale", "chunk_size", "rope_base", "t0"}, .has_gradients = true, .run = rat},
      {.name = "aaren", .main_input = "k", .options = {"scale"}, .has_gradients = true, .run = aaren},
  };
}

}  // namespace ops
