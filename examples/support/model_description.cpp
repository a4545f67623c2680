#include "model_description.hpp"

#include <weft/layer/attention_layer_vjp.hpp>
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/layer/lfm2_conv_vjp.hpp>
#include <weft/layer/lightning_layer_vjp.hpp>
#include <weft/layer/mamba2_layer_vjp.hpp>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "policy_layers.hpp"

namespace hybrid {
namespace {

using weft::array;
using weft::errc;
using weft::require;
using layer = weft::any_layer<float>;

layer delta_net(const description& d, first_numbers& s, bool by_channel) {
  const index key_heads = by_channel ? d.heads : d.key_heads, width = d.heads * d.head_dim;
  weft::delta_net<float> l{.options = {.key_heads = key_heads, .value_heads = d.heads, .key_dim = d.head_dim, .value_dim = d.head_dim}};
  l.qkv = s.linear(2 * key_heads * d.head_dim + width, d.hidden);
  l.conv = s.taps(l.qkv.outputs(), d.taps);
  l.b = s.linear(d.heads, d.hidden);
  if (by_channel) {  // as in Kimi Linear: gates by two thin projections
    l.options.gate = weft::activation::sigmoid;
    l.a = {s.linear(d.head_dim, d.hidden), s.linear(width, d.head_dim)};
    l.z = {s.linear(d.head_dim, d.hidden), s.linear(width, d.head_dim)};
  } else {
    l.a.up = s.linear(d.heads, d.hidden);
    l.z.up = s.linear(width, d.hidden);
  }
  l.decay = weft::decay_gate<float>::make(s.log_rates(d.heads), s.step_biases(l.a.outputs()));
  l.norm = constant(d.head_dim, 1);
  l.out = s.linear(d.hidden, width);
  return weft::erase_with_gradients(std::move(l));
}

layer mamba2(const description& d, first_numbers& s) {
  weft::mamba2_layer<float> l{.options = {.heads = d.heads, .head_dim = d.head_dim, .groups = 1, .state_dim = d.head_dim}};
  const index mixed = l.inner() + 2 * d.head_dim;
  l.zxBC = s.linear(l.inner() + mixed, d.hidden);
  l.dt = s.linear(d.heads, d.hidden);
  l.conv = s.taps(mixed, d.taps);
  l.conv_bias = constant(mixed, 0);
  l.A_log = s.log_rates(d.heads);
  l.D = constant(d.heads, 1);
  l.dt_bias = s.step_biases(d.heads);
  l.norm = constant(l.inner(), 1);
  l.out = s.linear(d.hidden, l.inner());
  return weft::erase_with_gradients(std::move(l));
}

layer lightning(const description& d, first_numbers& s, index number) {
  const index width = d.heads * d.head_dim;
  weft::lightning_layer<float> l{.heads = d.heads, .head_dim = d.head_dim};
  l.qkv = s.linear(3 * width, d.hidden);
  l.g = array<float, 1>({d.heads});
  for (index h = 0; h < d.heads; ++h) l.g(h) = static_cast<float>(weft::lightning_decay(h, d.heads, number, std::ssize(d.layers)));
  l.gate = s.linear(width, d.hidden);
  l.norm = constant(width, 1);
  l.out = s.linear(d.hidden, width);
  return weft::erase_with_gradients(std::move(l));
}

layer convolution(const description& d, first_numbers& s) {
  weft::lfm2_conv<float> l;
  l.in = s.linear(3 * d.hidden, d.hidden);
  l.conv = s.taps(d.hidden, d.taps);
  l.out = s.linear(d.hidden, d.hidden);
  return weft::erase_with_gradients(std::move(l));
}

// Gated, normed, rotary on a quarter of the channels, as in Qwen3-Next; window 0: every key.
layer attention(const description& d, first_numbers& s, index window) {
  weft::attention_layer<float> l{.options = {.heads = d.heads, .key_heads = d.key_heads, .head_dim = d.head_dim, .window = window,
                                             .scale = 1 / std::sqrt(static_cast<double>(d.head_dim)), .frequencies = weft::rotary_frequencies(d.head_dim / 8 * 2, 1e4)}};
  const index width = d.heads * d.head_dim, key_width = d.key_heads * d.head_dim;
  l.q = s.linear(width, d.hidden);
  l.gate = s.linear(width, d.hidden);
  l.k = s.linear(key_width, d.hidden);
  l.v = s.linear(key_width, d.hidden);
  l.q_norm = l.k_norm = constant(d.head_dim, 0);
  l.out = s.linear(d.hidden, width);
  return weft::erase_with_gradients(std::move(l));
}

constexpr std::string_view names[] = {"gdn", "kda", "mamba2", "lightning", "conv", "swa", "full", "linear_attention", "simple_gla", "gla", "hgrn2", "delta_rule", "gdn2"};

layer make_mixer(const description& d, index number, first_numbers& s) {
  const std::string& name = d.layers[static_cast<std::size_t>(number)];
  if (name == "gdn") return delta_net(d, s, false);
  if (name == "kda") return delta_net(d, s, true);
  if (name == "mamba2") return mamba2(d, s);
  if (name == "lightning") return lightning(d, s, number);
  if (name == "conv") return convolution(d, s);
  if (name == "swa") return attention(d, s, d.window);
  if (name == "full") return attention(d, s, 0);
  return make_policy_layer(name, d.hidden, d.heads, d.head_dim, s);
}

// f(name, count) for every number of a description.
template <class D, class F>
void for_each_count(D& d, F&& f) {
  f("hidden", d.hidden), f("inner", d.inner), f("heads", d.heads), f("key_heads", d.key_heads), f("head_dim", d.head_dim), f("window", d.window), f("taps", d.taps);
}

}  // namespace

std::span<const std::string_view> layer_names() { return names; }

void check(const description& d) {
  require(!d.layers.empty() && d.layers.size() <= 1024, errc::value, "layers: expected 1 to 1024, got ", d.layers.size());
  for (const std::string& name : d.layers) {
    std::string all;
    for (const std::string_view n : names) all += (all.empty() ? "" : ", ") + std::string(n);
    require(std::find(std::begin(names), std::end(names), name) != std::end(names), errc::unsupported, "layers: expected some of ", all, ", got ", weft::io::quoted(name));
  }
  for_each_count(d, [](const char* name, index x) { require(x >= 1 && x <= 1 << 16, errc::value, name, ": expected 1 to 65536, got ", x); });
  require(d.heads % d.key_heads == 0, errc::heads, "key_heads: expected a divisor of ", d.heads, " heads, got ", d.key_heads);
}

weft::language_model<float> make_model(const description& d, std::uint64_t seed) {
  check(d);
  first_numbers s(seed);
  weft::language_model<float> m{.in = {s.normal(vocabulary, d.hidden)}, .blocks = {}, .norm = constant(d.hidden, 0), .head = {}, .norm_eps = 1e-6, .unit_offset = true};
  for (index i = 0; i < std::ssize(d.layers); ++i) {
    auto& b = m.blocks.emplace_back();
    b.mixer_norm = b.inner_norm = constant(d.hidden, 0);
    b.mixer = make_mixer(d, i, s);
    b.inner = {s.linear(d.inner, d.hidden), s.linear(d.inner, d.hidden), s.linear(d.hidden, d.inner)};
  }
  m.head = s.linear(vocabulary, d.hidden);
  return m;
}

std::string config_text(const description& d) {
  nlohmann::ordered_json j{{"model_type", model_type}, {"layers", d.layers}};
  for_each_count(d, [&](const char* name, index x) { j[name] = x; });
  return j.dump(1) + "\n";
}

description described(const weft::settings& config) {
  description d;
  for (std::size_t i = 0; config.has("layers." + std::to_string(i)); ++i) d.layers.push_back(config.text("layers." + std::to_string(i)));
  for_each_count(d, [&](const char* name, index& x) { x = config.count(name); });
  check(d);
  return d;
}

std::vector<weft::named_numbers<float>> parameters_of(weft::language_model<float>& m) {
  std::vector<weft::named_numbers<float>> all;
  const auto add = [&](const std::string& name, auto& a) {
    if (!a.null()) all.push_back({name, {a.extent().begin(), a.extent().end()}, {a.data(), static_cast<std::size_t>(a.size())}});
  };
  add("in.weight", m.in.weight);
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    const std::string name = "blocks." + std::to_string(i) + ".";
    auto& b = m.blocks[i];
    add(name + "mixer_norm", b.mixer_norm);
    for (auto& p : b.mixer.parameters()) all.push_back({name + "mixer." + p.name, p.shape, p.numbers});
    add(name + "inner_norm", b.inner_norm);
    weft::for_each_parameter(b.inner, [&](const std::string& part, auto& a) { add(name + "inner." + part, a); });
  }
  add("norm", m.norm);
  add("head.weight", m.head.weight);
  return all;
}

void add_parameters(weft::language_model<float>& m, weft::tensor_writer& writer, const std::string& prefix) {
  for (const auto& p : parameters_of(m)) writer.add(weft::io::join(prefix, p.name), weft::dtype::f32, p.shape, p.numbers.data());
}

void load_parameters(weft::language_model<float>& m, const weft::tensor_file& file, const std::string& prefix) {
  const auto all = parameters_of(m);
  std::vector<array<float, 1>> loaded;
  for (const auto& p : all) {
    weft::tensor t = file.at(weft::io::join(prefix, p.name));
    require(t.shape == p.shape, errc::shape, file.name(), ": tensor ", weft::io::quoted(t.name), ": expected ", weft::check::list(p.shape), ", got ", weft::check::list(t.shape));
    t.shape = {t.count()};
    loaded.push_back(weft::to_array<float, 1>(t));
    for (index i = 0; i < loaded.back().size(); ++i)
      require(std::isfinite(loaded.back()(i)), errc::value, file.name(), ": tensor ", weft::io::quoted(t.name), ": expected finite numbers, got ", loaded.back()(i));
  }
  for (std::size_t i = 0; i < all.size(); ++i) std::copy_n(loaded[i].data(), all[i].numbers.size(), all[i].numbers.begin());
}

}  // namespace hybrid
