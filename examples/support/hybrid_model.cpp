#include "hybrid_model.hpp"

#include <weft/layer/activation.hpp>
#include <weft/layer/norm.hpp>
#include <weft/layer/parameters.hpp>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>

#include "configuration.hpp"
#include "layers.hpp"

namespace hybrid {
namespace {

using weft::errc;
using weft::require;
using weft::view;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  require(in.is_open() && std::filesystem::is_regular_file(path), errc::file, path.string(), ": expected a file that can be read");
  return {std::istreambuf_iterator<char>(in), {}};
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

void norm_rows(weft::cpu& cpu, view<const float, 3> x, const weft::array<float, 1>& weight, double eps, view<float, 3> y) {
  weft::rms_norm<float>(cpu, weft::heads_of(x, 0, 1, x.extent[2]), weight, weft::heads_of(y, 0, 1, x.extent[2]), eps, true);
}

void add(view<const float, 3> x, view<float, 3> to) {
  for (index i = 0; i < x.size(); ++i) to.data[i] += x.data[i];
}

std::string layer_name(std::size_t i) { return "layers." + std::to_string(i); }

}  // namespace

model::model(const std::filesystem::path& directory) {
  const std::filesystem::path config_path = directory / "config.json";
  const weft::settings config = configuration::settings_of(configuration::parse(read_text(config_path), config_path.string()), config_path.string());
  const auto expect = [&](const std::string& name, const std::string& text) {
    require(config.text(name) == text, errc::unsupported, config_path.string(), ": ", name, ": expected ", text, ", got ", config.text(name));
  };
  expect("model_type", "qwen3_next");
  expect("hidden_act", "silu");
  require(config.count("vocab_size") == vocabulary, errc::unsupported, config_path.string(), ": vocab_size: expected 256 bytes, got ", config.count("vocab_size"));
  require(!config.has("num_experts") || config.number("num_experts") == 0, errc::unsupported, config_path.string(), ": num_experts: expected 0");
  hidden_ = config.count("hidden_size");
  eps_ = config.number("rms_norm_eps");
  const index width = config.count("intermediate_size");

  const auto file = weft::tensor_file::read(directory / "model.safetensors");
  fingerprint_ = fingerprint_of(file);
  const weft::parameters<float> all(file), below = all.below("model.");
  embedding_ = weft::load<2>(below, "embed_tokens.weight", {vocabulary, hidden_});
  norm_ = weft::load<1>(below, "norm.weight", {hidden_});
  head_ = config.flag_or("tie_word_embeddings", false) ? weft::projection<float>{embedding_, {}} : weft::load_projection(all, "lm_head", vocabulary, hidden_);
  const auto count = static_cast<std::size_t>(config.count("num_hidden_layers"));
  for (std::size_t i = 0; i < count; ++i) {
    const weft::parameters<float> own = below.below(layer_name(i) + ".");
    const std::string& type = config.text("layer_types." + std::to_string(i));
    const bool linear = type == "linear_attention";
    require(linear || type == "full_attention", errc::unsupported, config_path.string(), ": layer_types: expected linear_attention or full_attention, got ", type);
    block b{.mixer = layers::known<float>().make(linear ? "Qwen3NextGatedDeltaNet" : "Qwen3NextAttention", own.below(linear ? "linear_attn." : "self_attn."),
                                                 config, static_cast<index>(i))};
    require(b.mixer.hidden() == hidden_, errc::shape, file.name(), ": ", layer_name(i), ": expected a mixer of ", hidden_, " channels, got ", b.mixer.hidden());
    b.mixer_norm = weft::load<1>(own, "input_layernorm.weight", {hidden_});
    b.mlp_norm = weft::load<1>(own, "post_attention_layernorm.weight", {hidden_});
    b.gate = weft::load_projection(own, "mlp.gate_proj", width, hidden_);
    b.up = weft::load_projection(own, "mlp.up_proj", width, hidden_);
    b.down = weft::load_projection(own, "mlp.down_proj", hidden_, width);
    blocks_.push_back(std::move(b));
  }
}

model_state model::state() const {
  model_state s;
  for (const block& b : blocks_) s.layers.push_back(b.mixer.state({.batch = 1}));
  return s;
}

void model::make_room(model_state& state, index bytes) const {
  for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].mixer.make_room(state.layers[i], bytes);
}

void model::feed(weft::cpu& cpu, std::span<const unsigned char> bytes, model_state& state) const {
  constexpr std::size_t piece = 512;
  for (std::size_t first = 0; first < bytes.size(); first += piece) {
    const auto part = bytes.subspan(first, std::min(piece, bytes.size() - first));
    const index n = std::ssize(part);
    weft::temporaries::scope memory(cpu.temporaries());
    const auto h = memory.take<float>(1, n, hidden_), normed = memory.take<float>(1, n, hidden_), added = memory.take<float>(1, n, hidden_);
    const auto gate = memory.take<float>(1, n, blocks_.front().gate.outputs()), up = memory.take<float>(1, n, blocks_.front().gate.outputs());

    for (index t = 0; t < n; ++t) std::copy_n(&embedding_(part[static_cast<std::size_t>(t)], 0), hidden_, &h(0, t, 0));
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const block& b = blocks_[i];
      norm_rows(cpu, h, b.mixer_norm, eps_, normed);
      if (n == 1) weft::step(cpu, b.mixer, {.x = normed}, state.layers[i], {.y = added});
      else weft::scan(cpu, b.mixer, {.x = normed}, state.layers[i], {.y = added});
      add(added, h);
      norm_rows(cpu, h, b.mlp_norm, eps_, normed);
      weft::project<float>(cpu, b.gate, normed, gate);
      weft::project<float>(cpu, b.up, normed, up);
      weft::multiply<float>(cpu, up, gate, weft::activation::silu, up);
      weft::project<float>(cpu, b.down, up, added);
      add(added, h);
    }
    state.seen += n;
    if (first + part.size() < bytes.size()) continue;
    const auto last = h.slice(1, n - 1, 1), out = normed.slice(1, 0, 1);
    norm_rows(cpu, last, norm_, eps_, out);
    state.logits.resize(static_cast<std::size_t>(vocabulary));
    weft::project<float>(cpu, head_, out, view<float, 3>(state.logits.data(), {1, 1, vocabulary}));
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
  require(logits.size() == (seen(0) > 0 ? vocabulary : 0), errc::shape, file.name(), ": tensor logits: expected 256 elements, got ", logits.size());
  for (const float x : std::span(logits.data(), static_cast<std::size_t>(logits.size())))
    require(std::isfinite(x), errc::value, file.name(), ": tensor logits: expected finite numbers, got ", x);
  s.seen = seen(0);
  s.logits.assign(logits.data(), logits.data() + logits.size());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    s.layers.push_back(weft::restore_parts(blocks_[i].mixer, file, layer_name(i)));
    for (const weft::tensor& t : s.layers.back().parts()) {
      require(t.shape[0] == 1, errc::shape, file.name(), ": tensor ", layer_name(i), ".", t.name, ": expected one sequence, got ", t.shape[0]);
      if (t.name != "length") continue;
      const auto length = weft::to_array<std::int64_t, 1>(t);
      require(length(0) == s.seen, errc::value, file.name(), ": tensor ", layer_name(i), ".length: expected ", s.seen, " as seen says, got ", length(0));
    }
  }
  return s;
}

}  // namespace hybrid
