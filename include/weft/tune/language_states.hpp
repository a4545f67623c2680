// Tuned initial states of a language model: what its blocks start from, and the loss of a batch from there.
//
//   auto set = weft::zero_states<float>(model, {0, 1, 2});                     a raw state for each of these blocks
//   weft::state_training<float, weft::any_state> training(set);
//   weft::tune(cpu, training.list(), {}, [&](weft::index) { return weft::tuned_loss(cpu, model, training, x, targets, tape).mean(); });
#pragma once
#include <algorithm>

#include "../layer/language_model.hpp"
#include "initial_states.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class R>
initial_states<any_state> zero_states(const language_model<R>& m, std::span<const index> blocks, const state_scale& scale = {}) {
  initial_states<any_state> set{{}, scale};
  for (const index b : blocks) {
    require(b >= 0 && b < static_cast<index>(m.blocks.size()), errc::value, "blocks: expected 0 to ", static_cast<index>(m.blocks.size()) - 1, ", got ", b);
    set.raw.emplace(b, m.blocks[static_cast<std::size_t>(b)].mixer.state({.batch = 1}));
  }
  return set;
}
template <class R>
initial_states<any_state> zero_states(const language_model<R>& m, std::initializer_list<index> blocks, const state_scale& scale = {}) {
  return zero_states(m, std::span(blocks.begin(), blocks.size()), scale);
}

// The states of a batch before position 0: row n from *rows[n], or untuned (null). No weight is touched, and prompts may then come
// in any pieces.
template <class R>
std::vector<any_state> begin(const language_model<R>& m, std::span<const initial_states<any_state>* const> rows) {
  auto states = m.state({.batch = static_cast<index>(rows.size())});
  for (std::size_t i = 0; i < states.size(); ++i)
    if (auto tuned = start<R, any_state>(static_cast<index>(i), rows)) states[i] = std::move(*tuned);
  return states;
}

// The loss of one batch that starts from the set in training, whose gradients are added to: what tune() calls. x [B, T, hidden] are
// the hidden states before block `first`, which is not above the lowest tuned one: the blocks below never change, so who keeps
// their outputs runs them once. With cu_seqlens, sequences of any lengths packed along time. `d_x`: the gradient of x, or null.
template <class R>
token_loss tuned_loss(cpu& executor, const language_model<R>& m, state_training<R, any_state>& training, std::type_identity_t<view<const R, 3>> x,
                      view<const std::int64_t, 2> targets, language_tape<R>& kept, std::span<const index> cu = {}, index first = 0, double share = 1.0,
                      const std::type_identity_t<view<R, 3>>& d_x = {}) {
  require(first <= training.lowest(), errc::value, "first: expected a block up to the lowest tuned one, ", training.lowest(), ", got ", first);
  const index sequences = check::sequences(cu, x.extent[0], x.extent[1]);
  auto states = m.state({.batch = sequences});
  for (std::size_t i = 0; i < states.size(); ++i)
    if (training.tunes(static_cast<index>(i))) states[i] = training.start(static_cast<index>(i), sequences);
  m.make_room(states, x.extent[1]);
  std::vector<any_state> gradients(states.size());
  for (std::size_t i = 0; i < states.size(); ++i)
    if (training.tunes(static_cast<index>(i))) {
      gradients[i] = m.blocks[i].mixer.zero_state_gradient(states[i]);
      // With the recurrent part alone the lowest layer's work ends at its reverse scan.
      if (gradients[i].get()->type() == typeid(layer_state<R>)) static_cast<layer_state<R>*>(gradients[i].get()->value())->conv = {};
    }
  hidden_states(executor, m, x, states, kept, cu, static_cast<std::size_t>(first));
  const token_loss loss = language_loss(executor, m, kept, targets, {.x = d_x, .states = &gradients}, share);
  for (std::size_t i = 0; i < gradients.size(); ++i)
    if (!gradients[i].empty()) training.add(static_cast<index>(i), gradients[i]);
  return loss;
}

}  // namespace WEFT_ISA
}  // namespace weft
