// What papers wrap around a mixer: short convolution, norms, rotary positions.
#include <weft/core/executor.hpp>
#include <weft/layer/norm_vjp.hpp>
#include <weft/layer/rotary_vjp.hpp>
#include <weft/layer/short_conv_vjp.hpp>

#include <cmath>

#include "feed.hpp"

namespace ops {
namespace {

using weft::errc;
using weft::require;

constexpr weft::activation activations[] = {weft::activation::none, weft::activation::silu, weft::activation::sigmoid};

template <class T, int Rank>
void warn_of_nan(std::string_view name, const weft::array<T, Rank>& a, results& r) {
  for (index i = 0; i < a.size(); ++i)
    if (std::isnan(static_cast<weft::accumulate_t<T>>(a.data()[i]))) {
      r.warnings.push_back("weft: " + std::string(name) + ": expected numbers, got a NaN");
      return;
    }
}

// The gradient of o among the tensors, in the computing type; zeros where it is absent.
template <class T, int Rank>
weft::array<weft::accumulate_t<T>, Rank> cotangent_of_o(const call& c, const weft::array<T, Rank>& like) {
  auto d_o = c.in.array<weft::accumulate_t<T>, Rank>("do", true);
  if (d_o.null()) d_o = weft::array<weft::accumulate_t<T>, Rank>(like.extent());
  return d_o;
}

results short_conv(const call& c) {
  return with_storage(c, "x", [&](auto t) {
    using T = typename decltype(t)::type;
    using real = weft::accumulate_t<T>;
    const auto x = c.in.array<T, 3>("x");
    const auto weight = c.in.array<T, 2>("weight");
    const auto bias = c.in.array<T, 1>("bias", true);
    weft::short_conv<T> mixer{.taps = weight.extent(1), .activation = activations[c.options.choice("activation", {"none", "silu"}, 0)]};
    const index batch = x.extent(0), time = x.extent(1), channels = x.extent(2);
    const std::vector<index> cu = c.in.cu_seqlens(batch, time);
    auto state = mixer.state({.batch = cu.empty() ? batch : static_cast<index>(cu.size()) - 1, .value_dim = channels});
    c.in.replace("h0", state.inputs);
    weft::array<real, 3> o(x.extent());
    const auto inputs = [&](index first, index count) {
      return typename weft::short_conv<T>::inputs{.x = x.view().slice(1, first, count), .weight = weight.view(), .bias = bias.view()};
    };
    const auto outputs = [&](index first, index count) {
      return typename weft::short_conv<T>::outputs{.o = o.view().slice(1, first, count)};
    };
    require(weight.extent(0) == channels, errc::shape, "weight: expected ", channels, " channels as in x, got ", weight.extent(0));
    results r;
    if (c.gradients) {
      const auto d_o = cotangent_of_o(c, x);
      typename weft::short_conv<T>::state_gradient d_state{weft::array<real, 3>(state.inputs.extent())};
      c.in.replace("dht", d_state.inputs);
      weft::array<real, 3> dx(x.extent());
      weft::array<real, 2> dweight(weight.extent());
      weft::array<real, 1> dbias(bias.extent());
      weft::tape tape;
      weft::scan(c.cpu, mixer, inputs(0, time), state, outputs(0, time), tape, cu);
      typename weft::short_conv<T>::gradients d_in{.x = dx, .weight = dweight};
      if (!bias.null()) d_in.bias = dbias.view();
      weft::vjp(c.cpu, mixer, inputs(0, time), tape, {.o = d_o}, d_state, d_in);
      r.outputs.emplace("dx", to_result(dx));
      r.outputs.emplace("dweight", to_result(dweight));
      if (!bias.null()) r.outputs.emplace("dbias", to_result(dbias));
      r.outputs.emplace("dh0", to_result(d_state.inputs));
    } else {
      feed(c, mixer, state, time, cu, inputs, outputs);
    }
    warn_of_nan("x", x, r);
    warn_of_nan("weight", weight, r);
    weft::array<real, 3> ht(state.inputs.extent());
    std::copy_n(state.inputs.data(), state.inputs.size(), ht.data());
    r.outputs.emplace("o", to_result(o));
    r.outputs.emplace("ht", to_result(ht));
    return r;
  });
}

results rms_norm_gated(const call& c) {
  return with_storage(c, "x", [&](auto t) {
    using T = typename decltype(t)::type;
    const bool gated = c.in.has("z");
    weft::rms_norm_options options{.eps = c.options.at_least("eps", 0.0, 1e-6),
                                   .gate = activations[c.options.choice("activation", {"none", "silu", "sigmoid"}, gated ? 1 : 0)],
                                   .norm_before_gate = c.options.flag("norm_before_gate", true),
                                   .group_size = c.options.integer("group_size", 1, 0)};
    const auto x = c.in.array<T, 4>("x");
    const auto z = c.in.array<T, 4>("z", options.gate == weft::activation::none);
    const auto weight = c.in.array<T, 1>("weight");
    weft::array<weft::accumulate_t<T>, 4> o(x.extent());
    if (c.on_device) ask(c, rms_norm_request<T>{x.view(), z.view(), weight.view(), o, options});
    else weft::rms_norm_gated<T>(c.cpu, x.view(), z.view(), weight.view(), o, options);
    results r;
    if (c.gradients) {
      weft::array<weft::accumulate_t<T>, 4> dx(x.extent()), dz;
      if (!z.null()) dz = dx;
      weft::array<weft::accumulate_t<T>, 1> dweight(weight.extent());
      weft::rms_norm_gated_vjp<T>(c.cpu, x.view(), z.view(), weight.view(), cotangent_of_o(c, x), dx, dz, dweight,
                                  options);
      r.outputs.emplace("dx", to_result(dx));
      r.outputs.emplace("dweight", to_result(dweight));
      if (!z.null()) r.outputs.emplace("dz", to_result(dz));
    }
    warn_of_nan("x", x, r);
    warn_of_nan("z", z, r);
    r.outputs.emplace("o", to_result(o));
    return r;
  });
}

results l2norm(const call& c) {
  return with_storage(c, "x", [&](auto t) {
    using T = typename decltype(t)::type;
    const auto x = c.in.array<T, 4>("x");
    weft::array<weft::accumulate_t<T>, 4> o(x.extent());
    const double eps = c.options.at_least("eps", 0.0, 1e-6);
    if (c.on_device) ask(c, l2_norm_request<T>{x.view(), o, eps});
    else weft::l2_norm<T>(c.cpu, x.view(), o, eps);
    results r;
    if (c.gradients) {
      weft::array<weft::accumulate_t<T>, 4> dx(x.extent());
      weft::l2_norm_vjp<T>(c.cpu, x.view(), cotangent_of_o(c, x), dx, eps);
      r.outputs.emplace("dx", to_result(dx));
    }
    warn_of_nan("x", x, r);
    r.outputs.emplace("o", to_result(o));
    return r;
  });
}

results rotary(const call& c) {
  return with_storage(c, "x", [&](auto t) {
    using T = typename decltype(t)::type;
    using real = weft::accumulate_t<T>;
    const auto x = c.in.array<T, 4>("x");
    const auto positions = c.in.array<std::int64_t, 1>("positions");
    const index time = x.extent(1), width = x.extent(3), dim = c.options.integer("rotary_dim", 0, width);
    const double base = c.options.number("base", 10000.0);
    require(positions.extent(0) == time, errc::shape, "positions: expected [", time, "], got [", positions.extent(0), "]");
    require(dim % 2 == 0 && dim <= width, errc::value, "rotary_dim: expected an even number up to ", width, ", got ", dim);
    require(base > 0, errc::value, "base: expected a positive number, got ", base);
    weft::array<real, 3> cos({1, time, dim / 2}), sin({1, time, dim / 2});
    weft::array<real, 4> o(x.extent());
    const weft::view<const std::int64_t, 2> rows(positions.data(), {1, time});
    const bool interleaved = c.options.flag("interleaved", false);
    const std::vector<double> frequencies = weft::rotary_frequencies(dim, base);
    if (c.on_device) {
      ask(c, rotary_request<T>{x.view(), rows, frequencies, cos.view(), sin.view(), o, interleaved});
    } else {
      weft::rotary_angles<real>(c.cpu, rows, frequencies, cos.view(), sin.view());
      weft::rotary<T>(c.cpu, x.view(), cos.view(), sin.view(), o, interleaved);
    }
    results r;
    if (c.gradients) {
      weft::array<real, 4> dx(x.extent());
      weft::rotary_vjp<real>(c.cpu, cotangent_of_o(c, x), cos.view(), sin.view(), dx, interleaved);
      r.outputs.emplace("dx", to_result(dx));
    }
    warn_of_nan("x", x, r);
    r.outputs.emplace("o", to_result(o));
    for (auto [name, table] : {std::pair{"cos", &cos}, std::pair{"sin", &sin}}) {
      result_tensor flat = to_result(*table);
      flat.shape.erase(flat.shape.begin());
      r.outputs.emplace(name, std::move(flat));
    }
    return r;
  });
}

}  // namespace

std::vector<op> layer_operators() {
  return {
      {.name = "short_conv", .main_input = "x", .options = {"activation"}, .has_gradients = true, .run = short_conv},
      {.name = "rms_norm_gated",
       .main_input = "x",
       .options = {"activation", "norm_before_gate", "group_size", "eps"},
       .has_state = false,
       .has_gradients = true,
       .run = rms_norm_gated},
      {.name = "l2norm", .main_input = "x", .options = {"eps"}, .has_state = false, .has_gradients = true, .run = l2norm},
      {.name = "rotary", .main_input = "x", .options = {"rotary_dim", "base", "interleaved"}, .has_state = false, .has_gradients = true, .run = rotary},
  };
}

}  // namespace ops
