#include "recall_mixers.hpp"

#include <weft/attention/attention.hpp>
#include <weft/backend/cpu/attention.hpp>
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/core/check.hpp>
#include <weft/recurrence/all.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace recall {

tokens::tokens(index batch_, index time_, index K, index V, index writes_)
    : batch(batch_), time(time_), writes(writes_), q({batch, time, 1, K}), k({batch, time * writes, 1, K}), v({batch, time * writes, 1, V}), beta({batch, time * writes, 1}),
      g({batch, time, 1}), g_head({1}), g_key({batch, time, 1, K}), beta_key(k), beta_value(v), beta_v(v), a(k), b(k), p(k), one({batch, time, 1}), bonus({1, K}) {}

void tokens::decay_all(float log_decay) {
  std::fill_n(g.data(), g.size(), log_decay);
  std::fill_n(g_key.data(), g_key.size(), log_decay);
  g_head(0) = log_decay;
}

void tokens::derive() {
  std::fill_n(one.data(), one.size(), 1.0f);
  const index K = k.extent(3), V = v.extent(3);
  for (index i = 0; i < beta.size(); ++i) {
    const float strength = beta.data()[i], kept = std::exp(g.data()[i / writes]);
    for (index c = 0; c < K; ++c) {
      const index at = i * K + c;
      const float key = k.data()[at];
      beta_key.data()[at] = strength;
      a.data()[at] = -key;
      b.data()[at] = strength * key * kept;
      p.data()[at] = kept * key;
    }
    for (index c = 0; c < V; ++c) {
      beta_value.data()[i * V + c] = strength;
      beta_v.data()[i * V + c] = strength * v.data()[i * V + c];
    }
  }
}

namespace {

template <class M>
struct use;  // inputs(tokens), and the mixer's options

template <class Policy>
struct use<weft::recurrence<Policy, float>> {
  using mixer = weft::recurrence<Policy, float>;
  static mixer make(index writes) {
    mixer m;
    m.scale = 1.0;
    m.micro_steps = static_cast<int>(writes);
    if constexpr (requires { m.policy.dt_softplus; }) m.policy.dt_softplus = false;
    if constexpr (Policy::axes.normalised) m.policy.map = weft::feature_map::relu;
    return m;
  }
  static typename mixer::inputs inputs(const tokens& t) { return fill(static_cast<const Policy*>(nullptr), t); }

 private:
  template <class P>
  using of = weft::inputs_of<P, float>;
  template <bool Normalised>
  static auto fill(const weft::linear_attention_policy<Normalised>*, const tokens& t) { return of<Policy>{.q = t.q, .k = t.k, .v = t.v}; }
  static auto fill(const weft::retention_policy*, const tokens& t) { return of<weft::retention_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g_head}; }
  static auto fill(const weft::simple_gla_policy*, const tokens& t) { return of<weft::simple_gla_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g}; }
  static auto fill(const weft::gla_policy*, const tokens& t) { return of<weft::gla_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g_key}; }
  static auto fill(const weft::hgrn2_policy*, const tokens& t) { return of<weft::hgrn2_policy>{.q = t.q, .v = t.v, .g = t.g_key}; }
  static auto fill(const weft::mamba2_policy*, const tokens& t) { return of<weft::mamba2_policy>{.x = t.v, .dt = t.one, .A = t.g_head, .B = t.k, .C = t.q, .D = {}, .dt_bias = {}, .z = {}}; }
  static auto fill(const weft::rwkv6_policy*, const tokens& t) { return of<weft::rwkv6_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g_key, .u = t.bonus}; }
  static auto fill(const weft::delta_policy*, const tokens& t) { return of<weft::delta_policy>{.q = t.q, .k = t.k, .v = t.v, .beta = t.beta}; }
  static auto fill(const weft::gated_delta_policy*, const tokens& t) {
    return of<weft::gated_delta_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g, .beta = t.beta};
  }
  static auto fill(const weft::kda_policy*, const tokens& t) { return of<weft::kda_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g_key, .beta = t.beta}; }
  static auto fill(const weft::gdn2_policy*, const tokens& t) {
    return of<weft::gdn2_policy>{.q = t.q, .k = t.k, .v = t.v, .g = t.g_key, .b = t.beta_key, .w = t.beta_value};
  }
  static auto fill(const weft::comba_policy*, const tokens& t) {
    return of<weft::comba_policy>{.q = t.q, .k = t.k, .p = t.p, .v = t.v, .g = t.g, .beta = t.beta};
  }
  static auto fill(const weft::dplr_policy*, const tokens& t) {
    return of<weft::dplr_policy>{.q = t.q, .k = t.k, .v = t.beta_v, .g = t.g_key, .a = t.a, .b = t.b};
  }
  static auto fill(const weft::gated_delta_product_policy*, const tokens& t) {
    return of<weft::gated_delta_product_policy>{.q = t.q, .k = t.k, .v = t.v, .beta = t.beta, .g = t.g};
  }
};

template <class Selector>
struct use<weft::attention<float, Selector>> {
  using mixer = weft::attention<float, Selector>;
  static mixer make(index) {
    mixer m;
    m.scale = sharpness;
    if constexpr (std::is_same_v<Selector, weft::window>) m.select.window = window;
    return m;
  }
  static typename mixer::inputs inputs(const tokens& t) { return {.q = t.q, .k = t.k, .v = t.v}; }
};

template <class M>
struct session_of final : session {
  M mixer;
  typename M::state_type state;

  session_of(const weft::shape& shape, index writes) : mixer(use<M>::make(writes)), state(mixer.state(shape)) {}
  void write(weft::cpu& cpu, const tokens& t, weft::view<float, 4> o) override { weft::scan(cpu, mixer, use<M>::inputs(t), state, {.o = o}); }
  void read(weft::cpu& cpu, const tokens& t, weft::view<float, 4> o) const override {
    auto rows = state.gather(std::vector<index>(static_cast<std::size_t>(t.batch), 0));
    weft::scan(cpu, mixer, use<M>::inputs(t), rows, {.o = o});
  }
  std::size_t bytes() const override { return weft::state_bytes(state.gather({0})); }
};

template <class M>
std::unique_ptr<session> start(index batch, index key_dim, index value_dim, index time, index writes) {
  return std::make_unique<session_of<M>>(weft::shape{.batch = batch, .heads = 1, .key_dim = key_dim, .value_dim = value_dim, .capacity = time}, writes);
}

constexpr mixer mixers[] = {
    {.name = "linear_attention", .kind = kind::sum, .start = start<weft::linear_attention<float>>},
    {.name = "linear_attention_normalised", .kind = kind::sum, .start = start<weft::linear_attention_normalised<float>>},
    {.name = "retention", .kind = kind::forgetting, .decays = true, .start = start<weft::retention<float>>},
    {.name = "lightning", .kind = kind::forgetting, .decays = true, .start = start<weft::lightning<float>>},
    {.name = "mamba2", .kind = kind::forgetting, .decays = true, .start = start<weft::mamba2<float>>},
    {.name = "simple_gla", .kind = kind::forgetting, .decays = true, .start = start<weft::simple_gla<float>>},
    {.name = "gla", .kind = kind::forgetting, .decays = true, .channels = true, .start = start<weft::gla<float>>},
    {.name = "hgrn2", .kind = kind::forgetting, .channels = true, .own_keys = false, .start = start<weft::hgrn2<float>>},
    {.name = "rwkv6", .kind = kind::forgetting, .decays = true, .channels = true, .start = start<weft::rwkv6<float>>},
    {.name = "delta_rule", .kind = kind::erasing, .start = start<weft::delta_rule<float>>},
    {.name = "gated_delta_rule", .kind = kind::erasing, .decays = true, .start = start<weft::gated_delta_rule<float>>},
    {.name = "kda", .kind = kind::erasing, .decays = true, .channels = true, .start = start<weft::kda<float>>},
    {.name = "gdn2", .kind = kind::erasing, .decays = true, .channels = true, .start = start<weft::gdn2<float>>},
    {.name = "comba", .kind = kind::erasing, .decays = true, .start = start<weft::comba<float>>},
    {.name = "rwkv7", .kind = kind::erasing, .decays = true, .channels = true, .start = start<weft::rwkv7<float>>},
    {.name = "dplr", .kind = kind::two_writers, .decays = true, .channels = true, .start = start<weft::dplr<float>>},
    {.name = "gated_delta_product", .kind = kind::product, .decays = true, .start = start<weft::gated_delta_product<float>>},
    {.name = "sliding_window_attention", .kind = kind::attention, .start = start<weft::attention<float, weft::window>>},
    {.name = "softmax_attention", .kind = kind::attention, .start = start<weft::attention<float>>},
};

}  // namespace

std::span<const mixer> all_mixers() { return mixers; }

const mixer& find_mixer(std::string_view name) {
  const auto found = std::find_if(std::begin(mixers), std::end(mixers), [&](const mixer& m) { return m.name == name; });
  if (found != std::end(mixers)) return *found;
  std::string names;
  for (const mixer& m : mixers) names += (names.empty() ? "" : ", ") + std::string(m.name);
  weft::fail(weft::errc::unsupported, "--mixers: expected some of ", names, ", got ", name);
}

}  // namespace recall
