// Attention layers from the checkpoints of their models.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "attention_layer.hpp"
#include "parameters.hpp"
#include "settings.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <storage T>
attention_options head_options(const parameters<T>& p, const settings& c) {
  expect_tensors(p, c.flag_or("attention_bias", false), {"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"});
  attention_options o{.heads = c.count("num_attention_heads"), .key_heads = c.count("num_key_value_heads"), .head_dim = c.count("head_dim")};
  o.scale = 1.0 / std::sqrt(static_cast<double>(o.head_dim));
  if (c.has("rms_norm_eps")) o.norm_eps = c.not_negative("rms_norm_eps");
  return o;
}

inline void plain_rotary(const settings& c, const std::string& group, attention_options& o) {
  c.expect(group + ".rope_type", {"default"});
  const double part = c.optional_number(group + ".partial_rotary_factor").value_or(1.0);
  require(part > 0.0 && part <= 1.0, errc::value, group, ".partial_rotary_factor: expected more than 0 and at most 1, got ", part);
  const auto dim = static_cast<index>(static_cast<double>(o.head_dim) * part);
  o.frequencies = rotary_frequencies(dim / 2 * 2, c.positive(group + ".rope_theta"));
}

// The window of layer `layer`, where its type has one.
inline index window_of(const settings& c, index layer) {
  const std::string type = "layer_types." + std::to_string(layer);
  return c.has(type) && c.one_of(type, {"sliding_attention", "full_attention"}) == "full_attention" ? 0 : c.count("sliding_window");
}

struct attention_parts {
  bool gated = false;  // in q_proj's rows every head is followed by its gate
  bool normed = false;
  bool sinks = false;
};

template <storage T>
attention_layer<T> load_attention(const parameters<T>& p, attention_options options, const attention_parts& has = {}) {
  attention_layer<T> l{.options = std::move(options)};
  const auto& o = l.options;
  require(o.heads % o.key_heads == 0, errc::heads, p.file().name(), ": expected key heads that divide ", o.heads, " query heads, got ", o.key_heads);
  l.q = load_projection(p, "q_proj", o.heads * o.head_dim * (has.gated ? 2 : 1), any_extent);
  if (has.gated) {
    std::vector<index> queries, gates;
    for (index row = 0; row < l.q.outputs(); ++row) (row / o.head_dim % 2 == 0 ? queries : gates).push_back(row);
    l.gate = pick_rows<T>(l.q, gates);
    l.q = pick_rows<T>(l.q, queries);
  }
  l.k = load_projection(p, "k_proj", o.key_heads * o.head_dim, l.q.inputs());
  l.v = load_projection(p, "v_proj", o.key_heads * o.head_dim, l.q.inputs());
  l.out = load_projection(p, "o_proj", l.q.inputs(), o.heads * o.head_dim);
  if (has.normed) {
    l.q_norm = load<1>(p, "q_norm.weight", {o.head_dim});
    l.k_norm = load<1>(p, "k_norm.weight", {o.head_dim});
  }
  if (has.sinks) l.sinks = load_wide(p, "sinks", o.heads);
  return l;
}

}  // namespace detail

template <storage T>
attention_layer<T> load_llama_attention(const parameters<T>& p, const settings& c) {
  attention_options o = detail::head_options(p, c);
  detail::plain_rotary(c, "rope_parameters", o);
  return detail::load_attention(p, std::move(o));
}

// A gate beside every query head, norms, and rotary on a part of the channels.
template <storage T>
attention_layer<T> load_qwen3_next_attention(const parameters<T>& p, const settings& c) {
  attention_options o = detail::head_options(p, c);
  detail::plain_rotary(c, "rope_parameters", o);
  return detail::load_attention(p, std::move(o), {.gated = true, .normed = true});
}

template <storage T>
attention_layer<T> load_gemma2_attention(const parameters<T>& p, const settings& c, index layer) {
  attention_options o = detail::head_options(p, c);
  o.scale = 1.0 / std::sqrt(c.positive("query_pre_attn_scalar"));
  if (c.has("attn_logit_softcapping")) o.softcap = c.positive("attn_logit_softcapping");
  o.window = detail::window_of(c, layer);
  detail::plain_rotary(c, "rope_parameters", o);
  return detail::load_attention(p, std::move(o));
}

// Sliding and full layers have rotary parameters of their own.
template <storage T>
attention_layer<T> load_gemma3_attention(const parameters<T>& p, const settings& c, index layer) {
  attention_options o = detail::head_options(p, c);
  o.scale = 1.0 / std::sqrt(c.positive("query_pre_attn_scalar"));
  o.window = detail::window_of(c, layer);
  detail::plain_rotary(c, o.window > 0 ? "rope_parameters.sliding_attention" : "rope_parameters.full_attention", o);
  return detail::load_attention(p, std::move(o), {.normed = true});
}

template <storage T>
attention_layer<T> load_gpt_oss_attention(const parameters<T>& p, const settings& c, index layer) {
  attention_options o = detail::head_options(p, c);
  o.window = detail::window_of(c, layer);
  const auto rope = [&](const char* name) { return "rope_parameters." + std::string(name); };
  c.expect(rope("rope_type"), {"yarn"});
  const yarn stretched{.base = c.positive(rope("rope_theta")), .factor = c.positive(rope("factor")), .original_context = c.positive(rope("original_max_position_embeddings")),
                       .beta_fast = c.positive(rope("beta_fast")), .beta_slow = c.positive(rope("beta_slow")), .truncate = c.flag_or(rope("truncate"), true)};
  require(stretched.base != 1.0, errc::value, rope("rope_theta"), ": expected another base than 1, whose frequencies are all one");
  require(stretched.beta_slow <= stretched.beta_fast, errc::value, rope("beta_slow"), ": expected at most beta_fast, ", stretched.beta_fast, ", got ", stretched.beta_slow);
  o.frequencies = stretched.frequencies(o.head_dim);
  o.rotary_factor = stretched.attention_factor();
  return detail::load_attention(p, std::move(o), {.sinks = true});
}

}  // namespace WEFT_ISA
}  // namespace weft
