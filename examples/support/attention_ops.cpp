// Softmax attention over all keys, or over a window of them.
#include <weft/attention/literal.hpp>
#include <weft/backend/cpu/attention.hpp>
#include <weft/weft.hpp>

#include "feed.hpp"

namespace ops {
namespace {

// The scan with a tape, and its gradients. Those of the keys before the queries lie in the cache.
template <class Mixer, class Storage>
void scan_with_gradients(const call& c, const Mixer& mixer, const typename Mixer::inputs& in, typename Mixer::state_type& cache,
                         const typename Mixer::outputs& out, const std::vector<index>& cu, const Storage& q, const Storage& k, const Storage& v, results& r) {
  using real = typename Mixer::real;
  const auto d_o = c.in.array<real, 4>("do", true);
  const auto d_lse = c.in.array<real, 3>("dlse", true);
  const index time = q.extent(1), surplus = k.extent(1) - time;
  weft::array<real, 4> dq(q.extent()), dk(k.extent()), dv(v.extent());
  weft::array<real, 1> dsink({in.sink.null() ? 0 : q.extent(2)});
  weft::state_gradient_t<Mixer> d_cache(cache);

  weft::tape tape;
  weft::scan(c.cpu, mixer, in, cache, out, tape, cu);
  typename Mixer::gradients d_in{.q = dq, .k = dk.view().slice(1, surplus, time), .v = dv.view().slice(1, surplus, time)};
  if (!in.sink.null()) d_in.sink = dsink.view();
  weft::vjp(c.cpu, mixer, in, tape, {.o = d_o, .lse = d_lse}, d_cache, d_in);

  const weft::cache_slots slots(cache.capacity(), mixer.select.retained());
  const auto before = [&](const weft::array<real, 4>& from, weft::array<real, 4>& to) {
    for (index p = 0; p < surplus; ++p) {
      if (p >= slots.kept && p < surplus - slots.around()) continue;  // no query of the call could read it
      for (index b = 0; b < to.extent(0); ++b)
        for (index h = 0; h < to.extent(2); ++h)
          for (index i = 0; i < to.extent(3); ++i) to(b, p, h, i) = from(b, h, slots.slot(p), i);
    }
  };
  before(d_cache.keys, dk);
  before(d_cache.values, dv);
  r.outputs.emplace("dq", to_result(dq));
  r.outputs.emplace("dk", to_result(dk));
  r.outputs.emplace("dv", to_result(dv));
  if (!in.sink.null()) r.outputs.emplace("dsink", to_result(dsink));
}

// Keys that outnumber their queries are the cache that the queries find.
template <class T, class Selector>
results run_attention(const call& c, const weft::attention<T, Selector>& mixer) {
  using mixer_type = weft::attention<T, Selector>;
  using real = typename mixer_type::real;
  if (!mixer.causal && (c.mode == mode::step || c.mode == mode::split))
    throw no_meaning("weft: --mode: without causality a query sees keys that come after it, so tokens cannot be fed in pieces");
  const auto q = c.in.array<T, 4>("q"), k = c.in.array<T, 4>("k"), v = c.in.array<T, 4>("v");
  const auto sink = c.in.array<real, 1>("sink", true);
  const index batch = q.extent(0), time = q.extent(1), surplus = k.extent(1) - time;
  const std::vector<index> cu = c.in.cu_seqlens(batch, time);
  weft::require(surplus >= 0, weft::errc::shape, "k: expected at least as many tokens as q has, ", time, ", got ", k.extent(1));
  weft::require(cu.empty() || surplus == 0, weft::errc::shape, "k: expected ", time, " packed tokens as in q, got ", k.extent(1));
  weft::require(v.extent(1) == k.extent(1), weft::errc::shape, "v: expected ", k.extent(1), " tokens as in k, got ", v.extent(1));

  weft::shape shape{.batch = batch, .heads = k.extent(2), .key_dim = k.extent(3), .value_dim = v.extent(3), .capacity = k.extent(1)};
  if (!cu.empty()) {
    shape.batch = static_cast<index>(cu.size()) - 1;
    shape.capacity = 0;
    for (std::size_t n = 0; n + 1 < cu.size(); ++n) shape.capacity = std::max(shape.capacity, cu[n + 1] - cu[n]);
  }
  auto cache = mixer.state(shape);
  weft::array<real, 4> o({batch, time, q.extent(2), v.extent(3)});
  weft::array<real, 3> lse({batch, time, q.extent(2)});
  weft::array<std::int32_t, 4> idx;  // what was chosen
  if constexpr (requires { mixer.select.topk; }) {
    mixer.select.check();
    idx = weft::array<std::int32_t, 4>({batch, time, q.extent(2), mixer.select.topk});
  }
  const auto inputs = [&](index first, index count) {
    return typename mixer_type::inputs{.q = q.view().slice(1, first, count),
                                       .k = k.view().slice(1, surplus + first, count),
                                       .v = v.view().slice(1, surplus + first, count),
                                       .sink = sink.view()};
  };
  const auto outputs = [&](index first, index count) {
    return typename mixer_type::outputs{.o = o.view().slice(1, first, count), .lse = lse.view().slice(1, first, count), .idx = idx.view().slice(1, first, count)};
  };
  weft::check_attention(mixer, inputs(0, time), cache, outputs(0, time), cu);
  if (surplus > 0) weft::append(mixer, k.view().slice(1, 0, surplus), v.view().slice(1, 0, surplus), cache);
  results r;
  if constexpr (with_gradients<typename mixer_type::storage_type>)
    if (c.gradients) scan_with_gradients(c, mixer, inputs(0, time), cache, outputs(0, time), cu, q, k, v, r);
  if (!c.gradients) feed(c, mixer, cache, time, cu, inputs, outputs);
  warn(mixer, {.q = q.view(), .k = k.view(), .v = v.view(), .sink = sink.view()}, r);
  r.outputs.emplace("o", to_result(o));
  r.outputs.emplace(idx.null() ? "lse" : "idx", idx.null() ? to_result(lse) : to_result(idx));
  return r;
}

index required(const call& c, std::string_view name) {
  const index given = c.options.integer(name, 1, 0);
  weft::require(given > 0, weft::errc::missing, name, ": expected an integer from 1, got none");
  return given;
}

template <class Selector>
results attention(const call& c) {
  return with_storage(c, "q", [&](auto t) {
    weft::attention<typename decltype(t)::type, Selector> mixer;
    if constexpr (std::is_same_v<Selector, weft::window>)
      mixer.select = {.window = c.options.integer("window", 0, 0), .kept = c.options.integer("kept", 0, 0)};
    if constexpr (requires { mixer.select.topk; }) mixer.select.topk = required(c, "topk");
    if constexpr (requires { mixer.select.topk; mixer.select.block_size; }) mixer.select.block_size = required(c, "block_size");
    mixer.scale = c.options.number("scale");
    mixer.softcap = c.options.at_least("softcap", 0.0, 0.0);
    mixer.causal = c.options.flag("causal", true);
    return run_attention(c, mixer);
  });
}

}  // namespace

std::vector<op> attention_operators() {
  return {
      {.name = "softmax_attention", .main_input = "q", .options = {"scale", "softcap", "causal"}, .has_gradients = true, .run = attention<weft::dense>},
      {.name = "sliding_window_attention",
       .main_input = "q",
       .options = {"scale", "softcap", "causal", "window", "kept"},
       .has_gradients = true,
       .run = attention<weft::window>},
      {.name = "topk_attention", .main_input = "q", .options = {"scale", "softcap", "causal", "topk"}, .has_gradients = true, .run = attention<weft::top_tokens>},
      {.name = "block_topk_attention",
       .main_input = "q",
       .options = {"scale", "softcap", "causal", "topk", "block_size"},
       .has_gradients = true,
       .run = attention<weft::top_blocks>},
  };
}

}  // namespace ops
