// The Mamba-2 layer from the checkpoints of the models that use it: they share parameter names, not configuration names.
#pragma once
#include <numeric>
#include <vector>

#include "mamba2_layer.hpp"
#include "parameters.hpp"
#include "settings.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Rows of a projection times factors, in the accumulating type.
template <storage T>
void scale_rows(projection<T>& p, index first, index count, double weight_factor, double bias_factor) {
  using R = accumulate_t<T>;
  const auto scale = [](T& x, double factor) { x = static_cast<T>(static_cast<R>(x) * static_cast<R>(factor)); };
  for (index r = first; r < first + count; ++r) {
    for (index c = 0; c < p.inputs(); ++c) scale(p.weight(r, c), weight_factor);
    if (!p.bias.null()) scale(p.bias(r), bias_factor);
  }
}

// factors: of the input, and of the sections z | x | B | C | dt of in_proj's result (Falcon-H1); all 1 elsewhere.
template <storage T>
mamba2_layer<T> load_mamba2_layer(const parameters<T>& p, const mamba2_options& options, bool normed, double in_factor = 1.0,
                                  const std::array<double, 5>& factors = {1, 1, 1, 1, 1}) {
  mamba2_layer<T> l{.options = options};
  const auto& o = l.options;
  require(o.heads % o.groups == 0, errc::heads, p.file().name(), ": expected groups that divide ", o.heads, " heads, got ", o.groups);
  const index inner = l.inner(), key_width = o.groups * o.state_dim, channels = inner + 2 * key_width;
  projection<T> in = load_projection(p, "in_proj", inner + channels + o.heads, any_extent);
  index first = 0;
  const std::array sections{inner, inner, key_width, key_width, o.heads};
  for (std::size_t i = 0; i < sections.size(); first += sections[i++])
    if (in_factor != 1.0 || factors[i] != 1.0) scale_rows(in, first, sections[i], in_factor * factors[i], factors[i]);
  std::vector<index> rows(static_cast<std::size_t>(in.outputs()));
  std::iota(rows.begin(), rows.end(), 0);
  const auto cut = static_cast<std::size_t>(inner + channels);
  l.zxBC = pick_rows(in, std::span(rows).first(cut));
  l.dt = pick_rows(in, std::span(rows).subspan(cut));

  l.conv = load_taps(p, "conv1d.weight", channels);
  if (p.find("conv1d.bias")) l.conv_bias = load_wide(p, "conv1d.bias", channels);
  l.A_log = load_wide(p, "A_log", o.heads);
  l.D = load_wide(p, "D", o.heads);
  l.dt_bias = load_wide(p, "dt_bias", o.heads);
  if (normed) l.norm = load_wide(p, "norm.weight", inner);
  l.out = load_projection(p, "out_proj", in.inputs(), inner);
  return l;
}

inline void read_step_limits(const settings& c, mamba2_options& o) {
  if (!c.has("time_step_limit.0")) return;
  o.dt_min = c.not_negative("time_step_limit.0");
  o.dt_max = c.at_least("time_step_limit.1", o.dt_min);
}

template <storage T>
mamba2_options mamba_prefixed_options(const parameters<T>& p, const settings& c) {
  expect_tensors(p, c.flag_or("mamba_conv_bias", false), {"conv1d.bias"});
  expect_tensors(p, c.flag_or("mamba_proj_bias", false), {"in_proj.bias"});
  c.expect("hidden_act", {"silu", "swish"});
  mamba2_options o{.heads = c.count("mamba_n_heads"), .head_dim = c.count("mamba_d_head"), .groups = c.count("mamba_n_groups"),
                   .state_dim = c.count("mamba_d_state"), .norm_eps = c.not_negative("rms_norm_eps")};
  read_step_limits(c, o);
  return o;
}

}  // namespace detail

template <storage T>
mamba2_layer<T> load_mamba2(const parameters<T>& p, const settings& c) {
  expect_tensors(p, c.flag_or("use_conv_bias", false), {"conv1d.bias"});
  expect_tensors(p, c.flag_or("use_bias", false), {"in_proj.bias", "out_proj.bias"});
  c.expect("hidden_act", {"silu", "swish"});
  mamba2_options o{.heads = c.count("num_heads"), .head_dim = c.count("head_dim"), .groups = c.count("n_groups"), .state_dim = c.count("state_size"),
                   .norm_eps = c.not_negative("layer_norm_epsilon")};
  detail::read_step_limits(c, o);
  return detail::load_mamba2_layer(p, o, true);
}

template <storage T>
mamba2_layer<T> load_bamba(const parameters<T>& p, const settings& c) {
  expect_tensors(p, c.flag_or("mamba_proj_bias", false), {"out_proj.bias"});
  return detail::load_mamba2_layer(p, detail::mamba_prefixed_options(p, c), true);
}

// The input's and the sections' multipliers are folded into in_proj.
template <storage T>
mamba2_layer<T> load_falcon_h1(const parameters<T>& p, const settings& c) {
  mamba2_options o = detail::mamba_prefixed_options(p, c);
  expect_tensors(p, c.flag_or("projectors_bias", false), {"out_proj.bias"});
  o.norm_before_gate = c.flag_or("mamba_norm_before_gate", false);
  std::array<double, 5> factors{};
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = c.number("ssm_multipliers." + std::to_string(i));
  return detail::load_mamba2_layer(p, o, c.flag("mamba_rms_norm"), c.number("ssm_in_multiplier"), factors);
}

// The step is at least time_step_min, in a scan and in a step alike.
template <storage T>
mamba2_layer<T> load_nemotron_h(const parameters<T>& p, const settings& c) {
  expect_tensors(p, c.flag_or("use_conv_bias", false), {"conv1d.bias"});
  expect_tensors(p, c.flag_or("use_bias", false), {"in_proj.bias", "out_proj.bias"});
  c.expect("mamba_hidden_act", {"silu", "swish"});
  return detail::load_mamba2_layer(p,
                                   {.heads = c.count("mamba_num_heads"), .head_dim = c.count("mamba_head_dim"), .groups = c.count("n_groups"),
                                    .state_dim = c.count("ssm_state_size"), .norm_eps = c.not_negative("layer_norm_epsilon"), .dt_min = c.not_negative("time_step_min")},
                                   true);
}

}  // namespace WEFT_ISA
}  // namespace weft
