// A language model with gradients: an embedding, blocks of a mixer and a feed-forward layer, each behind a norm and around a
// residual, and a head.
//
//   h <- h + mixer(rms(h)),  h <- h + inner(rms(h)),  logits = W_head rms(h)
#pragma once
#include <vector>

#include "any_layer_vjp.hpp"
#include "cross_entropy.hpp"
#include "embedding.hpp"
#include "feed_forward_vjp.hpp"
#include "norm_vjp.hpp"

namespace weft {
inline namespace v1 {

// Of a model, and of its gradients, whose mixers are the gradients of parameters.
template <class R, class Mixer>
struct residual_block {
  array<R, 1> mixer_norm{}, inner_norm{};
  Mixer mixer{};
  feed_forward<R> inner{};
};

template <class R, class Mixer = any_layer<R>>
struct language_model {
  embedding<R> in{};
  std::vector<residual_block<R, Mixer>> blocks{};
  array<R, 1> norm{};
  projection<R> head{};
  double norm_eps = 1e-6;
  bool unit_offset = false;  // norms multiply by 1 + weight

  index hidden() const { return norm.extent(0); }
  // One state a block, before position 0; reads batch and capacity.
  std::vector<any_state> state(const shape& s) const {
    std::vector<any_state> all;
    for (const auto& b : blocks) all.push_back(b.mixer.state(s));
    return all;
  }
  // Caches that grow get room for so many tokens more.
  void make_room(std::vector<any_state>& states, index tokens) const {
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i].mixer.make_room(states[i], tokens);
  }
};
template <class R>
using language_gradients = language_model<R, any_parameters<R>>;

// What a forward pass leaves for its gradients; grows once.
template <class R>
struct language_tape {
  struct block {
    array<R, 3> before, mixer_in, between, inner_in;
    tape mixer, inner;
  };
  std::size_t first = 0;  // the lowest block that was run
  std::vector<block> blocks;
  array<R, 3> last, out;  // before and after the last norm
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
view<R, 3> sized(array<R, 3>& a, const std::array<index, 3>& extent) {
  if (a.null() || a.extent() != extent) a = array<R, 3>(extent);
  return a;
}
template <class R>
void norm_rows(cpu& executor, view<const R, 3> x, const array<R, 1>& weight, view<R, 3> y, double eps, bool unit_offset) {
  rms_norm<R>(executor, heads_of(x, 0, 1, x.extent[2]), weight, heads_of(y, 0, 1, y.extent[2]), eps, unit_offset);
}
// d_h += the gradient of what went through the norm.
template <class R>
void norm_rows_back(cpu& executor, view<const R, 3> x, const array<R, 1>& weight, view<R, 3> d, view<R, 3> d_h, array<R, 1>* d_weight, double eps, bool unit_offset) {
  const auto rows = [](const auto& v) { return heads_of(v, 0, 1, v.extent[2]); };
  rms_norm_vjp<R>(executor, rows(x), weight, rows(d), rows(d), view_or_null(d_weight), eps, unit_offset);
  add_to(d_h.data, d.data, d.size());
}

}  // namespace detail

template <class R>
language_gradients<R> zero_gradients(const language_model<R>& m) {
  language_gradients<R> d;
  const auto zeros = [](const auto& from, auto& to) {
    if (!from.null()) to = std::remove_cvref_t<decltype(from)>(from.extent());
  };
  zeros(m.in.weight, d.in.weight);
  for (const auto& b : m.blocks) {
    auto& to = d.blocks.emplace_back();
    zeros(b.mixer_norm, to.mixer_norm);
    zeros(b.inner_norm, to.inner_norm);
    to.mixer = b.mixer.zero_gradients();
    to.inner = zero_gradients(b.inner);
  }
  zeros(m.norm, d.norm);
  zeros(m.head.weight, d.head.weight);
  zeros(m.head.bias, d.head.bias);
  return d;
}

// From the hidden states before block `first`, x [B, T, hidden], to those behind the last norm, y [B, T, hidden] or null; the states go from
// before the tokens to after them. What lies between is left on the tape. Packed sequences as in every scan.
template <class R>
void hidden_states(cpu& executor, const language_model<R>& m, std::type_identity_t<view<const R, 3>> x, std::vector<any_state>& states, language_tape<R>& kept,
                   std::span<const index> cu = {}, std::size_t first = 0) {
  require(states.size() == m.blocks.size(), errc::value, "states: expected one for each of ", m.blocks.size(), " blocks, got ", states.size());
  require(first <= m.blocks.size(), errc::value, "first: expected 0 to ", m.blocks.size(), ", got ", first);
  check::tensor("x", x, {x.extent[0], x.extent[1], m.hidden()}, false, true);
  kept.first = first;
  kept.blocks.resize(m.blocks.size());
  const auto size = static_cast<std::size_t>(x.size());
  const auto add = [&](const array<R, 3>& a, array<R, 3>& to) { add_to(to.data(), a.data(), static_cast<index>(size)); };
  for (index b = 0; b < x.extent[0]; ++b)
    for (index t = 0; t < x.extent[1]; ++t) std::copy_n(&x(b, t, 0), x.extent[2], &detail::sized(first < m.blocks.size() ? kept.blocks[first].before : kept.last, x.extent)(b, t, 0));
  for (std::size_t i = first; i < m.blocks.size(); ++i) {
    const auto& b = m.blocks[i];
    auto& k = kept.blocks[i];
    auto& after = i + 1 < m.blocks.size() ? kept.blocks[i + 1].before : kept.last;
    detail::norm_rows<R>(executor, k.before, b.mixer_norm, detail::sized(k.mixer_in, x.extent), m.norm_eps, m.unit_offset);
    scan(executor, b.mixer, {.x = k.mixer_in}, states[i], {.y = detail::sized(k.between, x.extent)}, k.mixer, cu);
    add(k.before, k.between);
    detail::norm_rows<R>(executor, k.between, b.inner_norm, detail::sized(k.inner_in, x.extent), m.norm_eps, m.unit_offset);
    no_state none;
    scan(executor, b.inner, {.x = k.inner_in}, none, {.y = detail::sized(after, x.extent)}, k.inner);
    add(k.between, after);
  }
  detail::norm_rows<R>(executor, kept.last, m.norm, detail::sized(kept.out, x.extent), m.norm_eps, m.unit_offset);
}

// What is wanted besides the loss. Frozen weights: no `parameters`, and no product for them is made.
template <class R>
struct language_wanted {
  view<R, 3> x{};                            // the gradient of the hidden states that went in
  std::vector<any_state>* states = nullptr;  // gradients of the states: after the tokens in, before them out; an empty one: none
  language_gradients<R>* parameters = nullptr;  // of the blocks that were run, of the last norm and of the head; added to
};

// The loss of what hidden_states() left on the tape, targets [B, T] or no_target, and the gradients of its mean (times `share`, for a mean over
// several calls). Throws as cross_entropy and vjp. Ends at the lowest block with a state that is wanted where neither x nor parameters are.
template <class R>
token_loss language_loss(cpu& executor, const language_model<R>& m, language_tape<R>& kept, view<const std::int64_t, 2> targets, const language_wanted<R>& wanted = {},
                         double share = 1.0) {
  auto* const d = wanted.parameters;
  check::tensor("targets", targets, {kept.out.extent(0), kept.out.extent(1)}, false, false);
  check::result("d_x", wanted.x, kept.out.extent(), true, true);
  require(!wanted.states || wanted.states->size() == m.blocks.size(), errc::value, "d_states: expected one for each of ", m.blocks.size(), " blocks, got ",
          wanted.states ? wanted.states->size() : 0);
  std::size_t lowest = d || !wanted.x.null() ? kept.first : m.blocks.size();
  for (std::size_t i = m.blocks.size(); wanted.states && i-- > kept.first;)
    if (!wanted.states->at(i).empty()) lowest = std::min(lowest, i);
  const bool none = lowest == m.blocks.size() && !d && wanted.x.null();
  if (none) return cross_entropy<R>(executor, m.head, kept.out, targets);
  index count = 0;
  for (index b = 0; b < targets.extent[0]; ++b)
    for (index t = 0; t < targets.extent[1]; ++t) count += targets(b, t) != no_target;
  const auto extent = kept.out.extent();
  array<R, 3> d_h(extent), d_part(extent), through(extent);
  const token_loss loss = cross_entropy<R>(executor, m.head, kept.out, targets, d_part, d ? &d->head : nullptr, share / static_cast<double>(std::max<index>(1, count)));
  detail::norm_rows_back<R>(executor, kept.last, m.norm, d_part, d_h, d ? &d->norm : nullptr, m.norm_eps, m.unit_offset);
  for (std::size_t i = m.blocks.size(); i-- > lowest;) {
    const auto& b = m.blocks[i];
    const auto& k = kept.blocks[i];
    auto* const db = d ? &d->blocks[i] : nullptr;
    no_state d_none;
    vjp(executor, b.inner, {.x = k.inner_in}, k.inner, {.y = d_h}, d_none, {.x = through, .parameters = db ? &db->inner : nullptr});
    detail::norm_rows_back<R>(executor, k.between, b.inner_norm, through, d_h, db ? &db->inner_norm : nullptr, m.norm_eps, m.unit_offset);
    any_state unwanted;
    any_state& d_state = wanted.states ? wanted.states->at(i) : unwanted;
    const bool below = i > lowest || d || !wanted.x.null();
    vjp(executor, b.mixer, {.x = k.mixer_in}, k.mixer, {.y = d_h}, d_state, {.x = below ? through.view() : view<R, 3>(), .parameters = db ? &db->mixer : nullptr});
    if (below) detail::norm_rows_back<R>(executor, k.before, b.mixer_norm, through, d_h, db ? &db->mixer_norm : nullptr, m.norm_eps, m.unit_offset);
  }
  if (!wanted.x.null())
    for (index b = 0; b < extent[0]; ++b)
      for (index t = 0; t < extent[1]; ++t) std::copy_n(&d_h(b, t, 0), extent[2], &wanted.x(b, t, 0));
  return loss;
}

// f(name, numbers, gradients, is a matrix) for every parameter of a model. Gradients of the embedding are the caller's, by embed_vjp.
template <class R, class F>
void for_each_parameter(language_model<R>& m, language_gradients<R>& d, F&& f) {
  const auto arrays = [&](const std::string& name, auto& a, auto& da) {
    if (!a.null()) f(name, std::span<R>(a.data(), static_cast<std::size_t>(a.size())), std::span<R>(da.data(), static_cast<std::size_t>(da.size())), std::remove_cvref_t<decltype(a)>::rank > 1);
  };
  arrays("in.weight", m.in.weight, d.in.weight);
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    const std::string name = "blocks." + std::to_string(i) + ".";
    auto &b = m.blocks[i];
    auto &db = d.blocks[i];
    arrays(name + "mixer_norm", b.mixer_norm, db.mixer_norm);
    const auto own = b.mixer.parameters(), gradients = db.mixer.list();
    for (std::size_t p = 0; p < own.size(); ++p) f(name + "mixer." + own[p].name, own[p].numbers, gradients.at(p).numbers, own[p].shape.size() > 1);
    arrays(name + "inner_norm", b.inner_norm, db.inner_norm);
    for_each_parameter(b.inner, db.inner, [&](const std::string& part, auto& a, auto& da) { arrays(name + "inner." + part, a, da); });
  }
  arrays("norm", m.norm, d.norm);
  arrays("head.weight", m.head.weight, d.head.weight);
  arrays("head.bias", m.head.bias, d.head.bias);
}

}  // namespace WEFT_ISA
}  // namespace weft
