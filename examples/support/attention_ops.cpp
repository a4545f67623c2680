// Softmax attention over all keys, or over a window of them.
#include <weft/attention/literal.hpp>
#include <weft/backend/cpu/attention.hpp>
#include <weft/weft.hpp>

#include "feed.hpp"

namespace ops {
namespace {

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
  const auto inputs = [&](index first, index count) {
    return typename mixer_type::inputs{.q = q.view().slice(1, first, count),
                                       .k = k.view().slice(1, surplus + first, count),
                                       .v = v.view().slice(1, surplus + first, count),
                                       .sink = sink.view()};
  };
  const auto outputs = [&](index first, index count) {
    return typename mixer_type::outputs{.o = o.view().slice(1, first, count), .lse = lse.view().slice(1, first, count)};
  };
  weft::check_attention(mixer, inputs(0, time), cache, outputs(0, time), cu);
  if (surplus > 0) weft::append(mixer, k.view().slice(1, 0, surplus), v.view().slice(1, 0, surplus), cache);
  feed(c, mixer, cache, time, cu, inputs, outputs);

  results r;
  warn(mixer, {.q = q.view(), .k = k.view(), .v = v.view(), .sink = sink.view()}, r);
  r.outputs.emplace("o", to_result(o));
  r.outputs.emplace("lse", to_result(lse));
  return r;
}

template <class Selector>
results attention(const call& c) {
  return with_storage(c, "q", [&](auto t) {
    weft::attention<typename decltype(t)::type, Selector> mixer;
    if constexpr (std::is_same_v<Selector, weft::window>)
      mixer.select = {.window = c.options.integer("window", 0, 0), .kept = c.options.integer("kept", 0, 0)};
    mixer.scale = c.options.number("scale");
    mixer.softcap = c.options.at_least("softcap", 0.0, 0.0);
    mixer.causal = c.options.flag("causal", true);
    return run_attention(c, mixer);
  });
}

}  // namespace

std::vector<op> attention_operators() {
  return {
      {.name = "softmax_attention", .main_input = "q", .options = {"scale", "softcap", "causal"}, .run = attention<weft::dense>},
      {.name = "sliding_window_attention",
       .main_input = "q",
       .options = {"scale", "softcap", "causal", "window", "kept"},
       .run = attention<weft::window>},
  };
}

}  // namespace ops
