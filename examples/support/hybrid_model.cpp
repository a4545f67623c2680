#include "hybrid_model.hpp"

#include <weft/layer/norm.hpp>
#include <weft/layer/parameters.hpp>

#include <cmath>
#include <cstdint>

#include "configuration.hpp"
#include "layers.hpp"

namespace hybrid {
namespace {

using weft::errc;
using weft::require;
using weft::view;

// A NaN would turn every later byte into the same one, silently.
void check_numbers(const weft::tensor_file& file) {
  for (const weft::tensor& t : file.tensors()) {
    if (t.type > weft::dtype::bf16) continue;  // integers
    weft::tensor flat = t;
    flat.shape = {t.count()};
    const auto x = weft::to_array<float, 1>(flat);
    for (index i = 0; i < x.size(); ++i)
      require(std::isfinite(x(i)), errc::value, file.name(), ": tensor ", weft::io::quoted(t.name), ": expected finite numbers, got ", x(i));
  }
}

// FNV-1a over names, shapes and bytes.
std::string fingerprint_of(const weft::tensor_file& file) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](const void* data, std::size_t n) {
    for (const auto* p = static_cast<const unsigned char*>(data); n > 0; ++p, --n) hash = (hash ^ *p) * 0x100000001b3u;
  };
  for (const weft::tensor& t : file.tensors()) {
    add(t.name.data(), t.name.size());
    add(t.shape.data(), t.shape.size() * sizeof(index));
    add(t.data, static_cast<std::size_t>(t.bytes()));
  }
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[(hash >> shift) & 15];
  return text;
}

using language_model = weft::language_model<float>;

void norm_rows(weft::cpu& cpu, const language_model& m, view<const float, 3> x, const weft::array<float, 1>& weight, view<float, 3> y) {
  weft::rms_norm<float>(cpu, weft::heads_of(x, 0, 1, x.extent[2]), weight, weft::heads_of(y, 0, 1, x.extent[2]), m.norm_eps, m.unit_offset);
}

void add(view<const float, 3> x, view<float, 3> to) {
  for (index i = 0; i < x.size(); ++i) to.data[i] += x.data[i];
}

std::string layer_name(std::size_t i) { return "layers." + std::to_string(i); }

// Folds the bytes into the states; h [1, n, hidden] is what goes to the last norm.
void fold_bytes(weft::cpu& cpu, const language_model& m, std::span<const unsigned char> bytes, std::vector<weft::any_state>& states, view<float, 3> h) {
  const index n = std::ssize(bytes);
  weft::temporaries::scope memory(cpu.temporaries());
  const auto normed = memory.take<float>(1, n, m.hidden()), added = memory.take<float>(1, n, m.hidden());
  for (index t = 0; t < n; ++t) std::copy_n(&m.in.weight(bytes[static_cast<std::size_t>(t)], 0), m.hidden(), &h(0, t, 0));
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    const auto& b = m.blocks[i];
    norm_rows(cpu, m, h, b.mixer_norm, normed);
    if (n == 1) weft::step(cpu, b.mixer, {.x = normed}, states[i], {.y = added});
    else weft::scan(cpu, b.mixer, {.x = normed}, states[i], {.y = added});
    add(added, h);
    norm_rows(cpu, m, h, b.inner_norm, normed);
    weft::no_state none;
    weft::scan(cpu, b.inner, {.x = normed}, none, {.y = added});
    add(added, h);
  }
}

// The layers that a published Qwen3-Next is made of.
language_model published_model(const weft::settings& config, const std::string& config_name, const weft::tensor_file& file) {
  const auto expect = [&](const std::string& name, const std::string& text) {
    require(config.text(name) == text, errc::unsupported, config_name, ": ", name, ": expected ", text, ", got ", config.text(name));
  };
  check_numbers(file);
  expect("hidden_act", "silu");
  require(config.count("vocab_size") == vocabulary, errc::unsupported, config_name, ": vocab_size: expected 256 bytes, got ", config.count("vocab_size"));
  require(!config.has("num_experts") || config.number("num_experts") == 0, errc::unsupported, config_name, ": num_experts: expected 0");
  const index hidden = config.count("hidden_size"), width = config.count("intermediate_size");

  const weft::parameters<float> all(file), below = all.below("model.");
  language_model m{.in = {weft::load<2>(below, "embed_tokens.weight", {vocabulary, hidden})}, .blocks = {}, .norm = weft::load<1>(below, "norm.weight", {hidden}), .head = {},
                   .norm_eps = config.not_negative("rms_norm_eps"), .unit_offset = true};
  m.head = config.flag_or("tie_word_embeddings", false) ? weft::projection<float>{m.in.weight, {}} : weft::load_projection(all, "lm_head", vocabulary, hidden);
  const auto count = static_cast<std::size_t>(config.count("num_hidden_layers"));
  for (std::size_t i = 0; i < count; ++i) {
    const weft::parameters<float> own = below.below(layer_name(i) + ".");
    const std::string& type = config.text("layer_types." + std::to_string(i));
    const bool linear = type == "linear_attention";
    require(linear || type == "full_attention", errc::unsupported, config_name, ": layer_types: expected linear_attention or full_attention, got ", type);
    auto& b = m.blocks.emplace_back();
    b.mixer = layers::known<float>().make(linear ? "Qwen3NextGatedDeltaNet" : "Qwen3NextAttention", own.below(linear ? "linear_attn." : "self_attn."), config,
                                          static_cast<index>(i));
    require(b.mixer.hidden() == hidden, errc::shape, file.name(), ": ", layer_name(i), ": expected a mixer of ", hidden, " channels, got ", b.mixer.hidden());
    b.mixer_norm = weft::load<1>(own, "input_layernorm.weight", {hidden});
    b.inner_norm = weft::load<1>(own, "post_attention_layernorm.weight", {hidden});
    b.inner.gate = weft::load_projection(own, "mlp.gate_proj", width, hidden);
    b.inner.up = weft::load_projection(own, "mlp.up_proj", width, hidden);
    b.inner.down = weft::load_projection(own, "mlp.down_proj", hidden, width);
  }
  return m;
}

}  // namespace

double bits_per_byte(weft::cpu& cpu, const language_model& m, std::span<const unsigned char> text, index window) {
  weft::token_loss all;
  for (std::size_t first = 0; first + 1 < text.size(); first += static_cast<std::size_t>(window)) {
    const auto part = text.subspan(first, std::min(static_cast<std::size_t>(window), text.size() - first));
    const index n = std::ssize(part) - 1;
    if (n < 1) break;
    auto states = m.state({.batch = 1, .heads = 0, .key_dim = 0, .value_dim = 0, .capacity = n});
    weft::array<float, 3> h({1, n, m.hidden()}), out(h.extent());
    weft::array<std::int64_t, 2> next({1, n});
    for (index t = 0; t < n; ++t) next(0, t) = part[static_cast<std::size_t>(t) + 1];
    fold_bytes(cpu, m, part.first(static_cast<std::size_t>(n)), states, h);
    norm_rows(cpu, m, h, m.norm, out);
    const auto loss = weft::cross_entropy<float>(cpu, m.head, out, next.view());
    all.sum += loss.sum;
    all.count += loss.count;
  }
  return all.bits();
}

model::model(const std::filesystem::path& directory) {
  const std::string config_name = (directory / "config.json").string();
  const weft::settings config = configuration::read_settings(config_name);
  const std::string& type = config.text("model_type");
  require(type == "qwen3_next" || type == model_type, errc::unsupported, config_name, ": model_type: expected qwen3_next or ", model_type, ", got ", type);
  const auto file = weft::tensor_file::read(directory / "model.safetensors");
  fingerprint_ = fingerprint_of(file);
  if (type == model_type) {
    weights_ = make_model(described(config), 0);
    load_parameters(weights_, file);
  } else {
    weights_ = published_model(config, config_name, file);
  }
}

model_state model::state() const {
  model_state s;
  s.layers = weights_.state({.batch = 1});
  return s;
}

void model::make_room(model_state& state, index bytes) const { weights_.make_room(state.layers, bytes); }

void model::feed(weft::cpu& cpu, std::span<const unsigned char> bytes, model_state& state) const {
  constexpr std::size_t piece = 512;
  for (std::size_t first = 0; first < bytes.size(); first += piece) {
    const auto part = bytes.subspan(first, std::min(piece, bytes.size() - first));
    const index n = std::ssize(part);
    weft::temporaries::scope memory(cpu.temporaries());
    const auto h = memory.take<float>(1, n, weights_.hidden()), out = memory.take<float>(1, 1, weights_.hidden());
    fold_bytes(cpu, weights_, part, state.layers, h);
    state.seen += n;
    if (first + part.size() < bytes.size()) continue;
    norm_rows(cpu, weights_, h.slice(1, n - 1, 1), weights_.norm, out);
    state.logits.resize(static_cast<std::size_t>(vocabulary));
    weft::project<float>(cpu, weights_.head, out, view<float, 3>(state.logits.data(), {1, 1, vocabulary}));
  }
}

void model::save(const model_state& state, const std::filesystem::path& file) const {
  weft::tensor_writer writer;
  writer.metadata("format", "weft.hybrid_model_state");
  writer.metadata("version", "1");
  writer.metadata("model", fingerprint_);
  for (std::size_t i = 0; i < state.layers.size(); ++i) weft::save_parts(state.layers[i], writer, layer_name(i));
  writer.add("seen", weft::dtype::i64, {1}, &state.seen);
  writer.add("logits", weft::dtype::f32, {std::ssize(state.logits)}, state.logits.data());
  writer.write(file);
}

model_state model::restore(const std::filesystem::path& path) const {
  const auto file = weft::tensor_file::read(path);
  const auto expect = [&](const std::string& key, const std::string& value) {
    const auto at = file.metadata().find(key);
    const std::string got = at == file.metadata().end() ? "nothing" : at->second;
    require(got == value, errc::file, file.name(), ": metadata ", key, ": expected ", value, ", got ", got, key == "model" ? ": the state of another model" : "");
  };
  expect("format", "weft.hybrid_model_state");
  expect("version", "1");
  expect("model", fingerprint_);
  model_state s;
  const auto seen = weft::to_array<std::int64_t, 1>(file.at("seen"));
  const auto logits = weft::to_array<float, 1>(file.at("logits"));
  require(seen.size() == 1 && seen(0) >= 0, errc::value, file.name(), ": tensor seen: expected a count");
  const index expected = seen(0) > 0 ? vocabulary : 0;
  require(logits.size() == expected, errc::shape, file.name(), ": tensor logits: expected ", expected, " elements, got ", logits.size());
  const auto require_finite = [&](const std::string& name, weft::tensor t) {
    t.shape = {t.count()};
    const auto numbers = weft::to_array<float, 1>(t);
    for (const float x : std::span(numbers.data(), static_cast<std::size_t>(numbers.size())))
      require(std::isfinite(x), errc::value, file.name(), ": tensor ", name, ": expected finite numbers, got ", x);
  };
  require_finite("logits", file.at("logits"));
  for (const weft::tensor& t : file.tensors()) {
    bool known = t.name == "seen" || t.name == "logits";
    for (std::size_t i = 0; i < weights_.blocks.size(); ++i) known |= t.name.starts_with(layer_name(i) + ".");
    require(known, errc::file, file.name(), ": tensor ", t.name, ": expected a part of this model's state, got another");
  }
  s.seen = seen(0);
  s.logits.assign(logits.data(), logits.data() + logits.size());
  for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
    s.layers.push_back(weft::restore_parts(weights_.blocks[i].mixer, file, layer_name(i)));
    for (const weft::tensor& t : s.layers.back().parts()) {
      require(t.shape[0] == 1, errc::shape, file.name(), ": tensor ", layer_name(i), ".", t.name, ": expected one sequence, got ", t.shape[0]);
      if (t.name != "length") {
        require_finite(layer_name(i) + "." + t.name, t);
        continue;
      }
      const auto length = weft::to_array<std::int64_t, 1>(t);
      require(length(0) == s.seen, errc::value, file.name(), ": tensor ", layer_name(i), ".length: expected ", s.seen, " as seen says, got ", length(0));
    }
  }
  return s;
}

}  // namespace hybrid
