// A layer around any recurrence, made from the names and roles of its policy's inputs:
//
//   q, k, v ... = W x         g = decay(W_a x)         every other gate = sigmoid(W_s x)
//   y = W_o (rms(mixer(...)) silu(W_z x))
//
// For policies whose inputs are all of tokens, and stable for any numbers: no constants of a head, no writer of its own.
#pragma once
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/backend/cpu/recurrence_vjp.hpp>
#include <weft/layer/any_layer_vjp.hpp>
#include <weft/layer/gates_vjp.hpp>
#include <weft/layer/norm_vjp.hpp>

#include <tuple>

namespace hybrid {

using weft::index;
namespace inside = weft::WEFT_ISA::detail;  // what layers share

template <class Policy>
struct policy_layer {
  using storage_type = float;
  using mixer_type = weft::recurrence<Policy, float>;
  using inputs = weft::hidden_inputs<float>;
  using outputs = weft::hidden_outputs<float>;
  using state_type = weft::layer_state<float>;
  using cotangents = weft::hidden_cotangents<float>;
  using parameter_gradients = policy_layer;
  using gradients = weft::hidden_gradients<float, policy_layer>;
  using state_gradient = weft::layer_state<float>;
  static constexpr bool rehearses = true;

  index heads = 0, head_dim = 0;
  weft::projection<float> plain{}, gates{}, a{}, z{};  // gates and a: where the policy has such inputs
  weft::decay_gate<float> decay{};
  weft::array<float, 1> norm{};  // [head_dim]
  weft::projection<float> out{};

  auto parts() { return std::tuple{weft::part{"plain", plain}, weft::part{"gates", gates}, weft::part{"a", a}, weft::part{"z", z}, weft::part{"decay", decay}, weft::part{"norm", norm}, weft::part{"out", out}}; }
  auto parts() const { return std::tuple{weft::part{"plain", plain}, weft::part{"gates", gates}, weft::part{"a", a}, weft::part{"z", z}, weft::part{"decay", decay}, weft::part{"norm", norm}, weft::part{"out", out}}; }
  index hidden() const { return out.outputs(); }
  mixer_type mixer() const { return {.qk_l2norm = weft::unit_keys<Policy>() > 0}; }
  state_type state(const weft::shape& s) const {
    return {{}, mixer().state({.batch = s.batch, .heads = heads, .key_dim = head_dim, .value_dim = head_dim})};
  }
  void check_state(const state_type& s, index sequences) const {
    weft::check_part("recurrent", s.recurrent.matrix, std::array{sequences, heads, head_dim, head_dim});
  }
};

// Which of a layer's projections makes an input.
enum class source { plain, gates, decay };
template <class Policy, std::size_t I>
inline constexpr source source_of = !weft::role_of<Policy, I>.wide ? source::plain : weft::name_of<Policy>(I).text == "g" ? source::decay : source::gates;

// The channels of a projection.
template <class Policy>
index channels(source from, index heads, index head_dim) {
  index n = 0;
  typename weft::recurrence<Policy, float>::inputs in;
  weft::for_each_member(in, [&](const auto&, auto i) {
    constexpr weft::role r = weft::role_of<Policy, i>;
    static_assert(r.time && !r.micro, "policy_layer: expected inputs of tokens alone");
    if (source_of<Policy, i> == from) n += heads * (r.width == weft::width::one ? 1 : head_dim);
  });
  return n;
}

// A policy's inputs, or their gradients, as the parts of what the projections gave.
template <class Policy, class Members, class View>
void place(const policy_layer<Policy>& l, Members& to, const View& plain, const View& gates, const View& g) {
  index next[3] = {0, 0, 0};
  weft::for_each_member(to, [&](auto& member, auto i) {
    constexpr source from = source_of<Policy, i>;
    constexpr weft::role r = weft::role_of<Policy, i>;
    const View& all = from == source::plain ? plain : from == source::gates ? gates : g;
    index& first = next[static_cast<std::size_t>(from)];
    if constexpr (r.rank() == 3) member = all.slice(2, first, l.heads);
    else member = weft::heads_of(all, first, l.heads, l.head_dim);
    first += l.heads * (r.rank() == 3 ? 1 : l.head_dim);
  });
}

struct policy_values {
  weft::view<float, 3> plain, gates, a, g, z, read, o;
};
template <class Policy>
policy_values values_of(const policy_layer<Policy>& l, weft::layer_room& room) {
  policy_values v;
  const index width = l.heads * l.head_dim;
  v.plain = room.take<float>(l.plain.outputs());
  v.gates = room.take<float>(l.gates.outputs());
  v.a = room.take<float>(l.a.outputs());
  v.g = room.after(v.a);
  v.z = room.take<float>(width);
  v.read = room.take<float>(width);
  v.o = room.after(v.read);
  return v;
}

template <class Policy, class Call>
void forward(weft::cpu& executor, const policy_layer<Policy>& l, weft::view<const float, 3> x, weft::layer_state<float>& state,
             const std::type_identity_t<weft::output<float, 3>>& y, const Call& call) {
  weft::layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = values_of(l, room);
  const auto heads = [&](const auto& values) { return weft::heads_of(values, 0, l.heads, l.head_dim); };
  weft::project<float>(executor, l.plain, x, v.plain);
  weft::project<float>(executor, l.z, x, v.z);
  if (!l.gates.weight.null()) {
    weft::project<float>(executor, l.gates, x, v.gates);
    weft::writing_strength(executor, v.gates);
  }
  if (!l.a.weight.null()) {
    weft::project<float>(executor, l.a, x, v.a);
    decay(executor, l.decay, v.a, v.g);
  }
  typename policy_layer<Policy>::mixer_type::inputs in;
  place(l, in, v.plain, v.gates, v.g);
  weft::fold(executor, l.mixer(), in, state.recurrent, {.o = heads(v.read)}, call);
  weft::rms_norm_gated<float>(executor, heads(v.read), heads(v.z), l.norm, heads(v.o), {.eps = 1e-6, .gate = weft::activation::silu});
  weft::project<float>(executor, l.out, v.o, y);
}

template <class Policy>
void backward(weft::cpu& executor, const policy_layer<Policy>& l, weft::view<const float, 3> x, const weft::layer_kept& kept,
              const std::type_identity_t<weft::view<const float, 3>>& d_y, weft::layer_state<float>& d_state, const std::type_identity_t<weft::view<float, 3>>& d_x,
              policy_layer<Policy>* d) {
  const index B = x.extent[0], n = x.extent[1], width = l.heads * l.head_dim;
  weft::layer_room room(executor, kept, B, n);
  const auto v = values_of(l, room);
  weft::temporaries::scope memory(executor.temporaries());
  const bool through = !d_x.null() || d;  // what lies before the recurrence is wanted
  const auto take = [&](index channels) { return memory.take<float>(B, n, channels); };
  const auto d_o = take(width), d_z = take(width), d_plain = take(l.plain.outputs()), d_gates = take(l.gates.outputs()), d_g = take(l.a.outputs());
  const auto heads = [&](const auto& values) { return weft::heads_of(values, 0, l.heads, l.head_dim); };

  weft::project_vjp(executor, l.out, weft::view<const float, 3>(v.o), d_y, d_o, d ? &d->out : nullptr);
  weft::rms_norm_gated_vjp<float>(executor, heads(v.read), heads(v.z), l.norm, heads(d_o), heads(d_o), through ? heads(d_z) : weft::view<float, 4>(),
                                  inside::view_or_null(d ? &d->norm : nullptr), {.eps = 1e-6, .gate = weft::activation::silu});
  typename policy_layer<Policy>::mixer_type::inputs in;
  typename policy_layer<Policy>::mixer_type::gradients d_in{};
  place(l, in, v.plain, v.gates, v.g);
  if (through) place(l, d_in, d_plain, d_gates, d_g);
  inside::recurrence_back(executor, l.mixer(), in, kept.tapes[0], {.o = heads(d_o)}, d_state.recurrent, d_in);
  if (!through) return;

  weft::project_vjp(executor, l.plain, x, d_plain, d_x, d ? &d->plain : nullptr);
  weft::project_vjp(executor, l.z, x, d_z, d_x, d ? &d->z : nullptr, true);
  if (!l.gates.weight.null()) {
    weft::writing_strength_vjp<float>(executor, v.gates, d_gates, d_gates);
    weft::project_vjp(executor, l.gates, x, d_gates, d_x, d ? &d->gates : nullptr, true);
  }
  if (!l.a.weight.null()) {
    weft::decay_vjp<float>(executor, l.decay, v.a, d_g, d_g, d ? &d->decay : nullptr);
    weft::project_vjp(executor, l.a, x, d_g, d_x, d ? &d->a : nullptr, true);
  }
}

}  // namespace hybrid
