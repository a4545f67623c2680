// The delta nets from the checkpoints of their models: parameter names, configuration names, and the order of rows.
#pragma once
#include <numeric>
#include <vector>

#include "delta_net.hpp"
#include "parameters.hpp"
#include "settings.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Names of the parts that all delta nets have.
struct delta_net_names {
  const char* norm;
  const char* out;
};

template <storage T>
delta_net<T> finish_delta_net(delta_net<T> l, const parameters<T>& p, const delta_net_names& names) {
  const auto& o = l.options;
  require(o.value_heads % o.key_heads == 0, errc::heads, p.file().name(), ": expected key heads that divide ", o.value_heads, " value heads, got ", o.key_heads);
  l.conv = load_taps(p, "conv1d.weight", l.qkv.outputs());
  l.norm = load_wide(p, std::string(names.norm) + ".weight", o.value_dim);
  l.out = load_projection(p, names.out, l.qkv.inputs(), o.value_heads * o.value_dim);
  return l;
}

template <storage T>
projection<T> load_stacked_qkv(const parameters<T>& p, index key_width, index value_width) {
  const projection<T> q = load_projection(p, "q_proj", key_width, any_extent);
  const std::array parts{q, load_projection(p, "k_proj", key_width, q.inputs()), load_projection(p, "v_proj", value_width, q.inputs())};
  return stack_rows(std::span<const projection<T>>(parts));
}

// Of a log-decay, so not above 0.
inline double lower_bound(const settings& c, const std::string& name) {
  const double bound = c.number(name);
  require(bound <= 0.0, errc::value, name, ": expected at most 0, got ", bound);
  return bound;
}

template <storage T>
low_rank_projection<T> load_low_rank(const parameters<T>& p, const std::string& down, const std::string& up, index out, index in) {
  low_rank_projection<T> l{load_projection(p, down, any_extent, in), {}};
  l.up = load_projection(p, up, out, l.down.outputs());
  return l;
}

inline delta_net_options linear_options(const settings& c) {
  c.expect("hidden_act", {"silu", "swish"});
  return {.key_heads = c.count("linear_num_key_heads"), .value_heads = c.count("linear_num_value_heads"), .key_dim = c.count("linear_key_head_dim"),
          .value_dim = c.count("linear_value_head_dim"), .norm_eps = c.not_negative("rms_norm_eps")};
}

}  // namespace detail

// Rows of in_proj_qkvz come grouped by key head, q | k | v of its value heads | z of them; those of in_proj_ba as b | a.
template <storage T>
delta_net<T> load_qwen3_next_delta_net(const parameters<T>& p, const settings& c) {
  delta_net<T> l{.options = detail::linear_options(c)};
  const auto& o = l.options;
  const index ratio = o.value_heads / o.key_heads, group = 2 * o.key_dim + 2 * ratio * o.value_dim;
  const projection<T> qkvz = load_projection(p, "in_proj_qkvz", o.key_heads * group, any_extent);
  const projection<T> ba = load_projection(p, "in_proj_ba", 2 * o.value_heads, qkvz.inputs());
  // The rows [first, first + count) of every group.
  const auto rows = [&](index size, std::initializer_list<std::pair<index, index>> ranges) {
    std::vector<index> list;
    for (const auto& [first, count] : ranges)
      for (index h = 0; h < o.key_heads; ++h)
        for (index i = 0; i < count; ++i) list.push_back(h * size + first + i);
    return list;
  };
  const index values = ratio * o.value_dim;
  l.qkv = pick_rows(qkvz, rows(group, {{0, o.key_dim}, {o.key_dim, o.key_dim}, {2 * o.key_dim, values}}));
  l.z.up = pick_rows(qkvz, rows(group, {{2 * o.key_dim + values, values}}));
  l.b = pick_rows(ba, rows(2 * ratio, {{0, ratio}}));
  l.a.up = pick_rows(ba, rows(2 * ratio, {{ratio, ratio}}));
  l.decay = decay_gate<accumulate_t<T>>::make(load_wide(p, "A_log", o.value_heads), load_wide(p, "dt_bias", o.value_heads));
  return detail::finish_delta_net(std::move(l), p, {"norm", "out_proj"});
}

template <storage T>
delta_net<T> load_qwen3_5_delta_net(const parameters<T>& p, const settings& c) {
  delta_net<T> l{.options = detail::linear_options(c)};
  const auto& o = l.options;
  l.qkv = load_projection(p, "in_proj_qkv", 2 * o.key_heads * o.key_dim + o.value_heads * o.value_dim, any_extent);
  l.z.up = load_projection(p, "in_proj_z", o.value_heads * o.value_dim, l.qkv.inputs());
  l.b = load_projection(p, "in_proj_b", o.value_heads, l.qkv.inputs());
  l.a.up = load_projection(p, "in_proj_a", o.value_heads, l.qkv.inputs());
  l.decay = decay_gate<accumulate_t<T>>::make(load_wide(p, "A_log", o.value_heads), load_wide(p, "dt_bias", o.value_heads));
  return detail::finish_delta_net(std::move(l), p, {"norm", "out_proj"});
}

// Its norm's eps is 1e-5 whatever the configuration says.
template <storage T>
delta_net<T> load_olmo_hybrid_delta_net(const parameters<T>& p, const settings& c) {
  delta_net<T> l{.options = detail::linear_options(c)};
  auto& o = l.options;
  o.norm_eps = 1e-5;
  o.beta_factor = c.flag_or("linear_allow_neg_eigval", false) ? 2.0 : 1.0;
  l.qkv = detail::load_stacked_qkv(p, o.key_heads * o.key_dim, o.value_heads * o.value_dim);
  l.z.up = load_projection(p, "g_proj", o.value_heads * o.value_dim, l.qkv.inputs());
  l.b = load_projection(p, "b_proj", o.value_heads, l.qkv.inputs());
  l.a.up = load_projection(p, "a_proj", o.value_heads, l.qkv.inputs());
  l.decay = decay_gate<accumulate_t<T>>::make(load_wide(p, "A_log", o.value_heads), load_wide(p, "dt_bias", o.value_heads));
  return detail::finish_delta_net(std::move(l), p, {"o_norm", "o_proj"});
}

// Kimi Delta Attention; `full_rank`: gates by one projection each (Bailing) instead of two.
template <storage T>
delta_net<T> load_kda_layer(const parameters<T>& p, const settings& c, bool full_rank, std::optional<double> lower_bound) {
  c.expect("hidden_act", {"silu", "swish"});
  const index heads = c.count("linear_num_heads"), dim = c.count("linear_head_dim"), width = heads * dim;
  delta_net<T> l{.options = {.key_heads = heads, .value_heads = heads, .key_dim = dim, .value_dim = dim, .norm_eps = c.not_negative("rms_norm_eps"), .gate = activation::sigmoid}};
  l.qkv = detail::load_stacked_qkv(p, width, width);
  const index in = l.qkv.inputs();
  l.b = load_projection(p, "b_proj", heads, in);
  if (full_rank) {
    l.a.up = load_projection(p, "forget_gate.f_proj", width, in);
    l.z.up = load_projection(p, "g_proj", width, in);
  } else {
    l.a = detail::load_low_rank(p, "forget_gate.f_a_proj", "forget_gate.f_b_proj", width, in);
    l.z = detail::load_low_rank(p, "g_a_proj", "g_b_proj", width, in);
  }
  l.decay = decay_gate<accumulate_t<T>>::make(load_wide(p, "forget_gate.A_log", heads), load_wide(p, "forget_gate.dt_bias", width), lower_bound);
  return detail::finish_delta_net(std::move(l), p, {"o_norm", "o_proj"});
}

template <storage T>
delta_net<T> load_kimi_delta_net(const parameters<T>& p, const settings& c) { return load_kda_layer(p, c, false, {}); }
template <storage T>
delta_net<T> load_glm5_delta_net(const parameters<T>& p, const settings& c) { return load_kda_layer(p, c, false, c.has("linear_lower_bound") ? std::optional(detail::lower_bound(c, "linear_lower_bound")) : std::nullopt); }
template <storage T>
delta_net<T> load_bailing_delta_net(const parameters<T>& p, const settings& c) {
  return load_kda_layer(p, c, true, c.flag_or("kda_safe_gate", false) ? std::optional(detail::lower_bound(c, "kda_lower_bound")) : std::nullopt);
}

}  // namespace WEFT_ISA
}  // namespace weft
