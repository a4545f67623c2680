// A mixer with a state, fed as the mode of the call asks.
#pragma once
#include <weft/core/verbs.hpp>

#include <algorithm>

#include "device.hpp"
#include "operators.hpp"

namespace ops {

template <class Request>
void ask(const call& c, const Request& r) {
  ask_device(typeid(Request), &r);
  *c.on_device = true;
}

template <class Mixer>
void run_verb(const call& c, const Mixer& mixer, const weft::inputs_t<Mixer>& in, weft::state_t<Mixer>& state, const weft::outputs_t<Mixer>& out, bool step,
              const std::vector<index>& cu = {}) {
  if (c.on_device) ask(c, mixer_request<Mixer>{mixer, in, state, out, cu, step});
  else if (step) weft::step(c.cpu, mixer, in, state, out);
  else weft::scan(c.cpu, mixer, in, state, out, cu);
}

// f(first, count) for the pieces in which a sequence of `time` tokens is fed.
template <class F>
void for_each_piece(mode how, index time, F&& f) {
  if (how == mode::step) {
    for (index t = 0; t < time; ++t) f(t, index{1});
  } else {
    const index cut[] = {0, time / 3, std::min(time / 2 + 1, time), time};
    for (int i = 0; i < 3; ++i) f(cut[i], cut[i + 1] - cut[i]);
  }
}

// Row n of a state, put back from a state of one row.
template <class State>
void put_row(const State& one, State& all, index n) {
  weft::for_each_part(one, all, [&](const auto& from, const auto& to) {
    if (!from.data.null()) std::copy_n(from.data.data(), from.data.size(), to.data.data() + n * from.data.size());
  });
}

// inputs(first, count) and outputs(first, count) are the views of a part of the call's tokens.
// Shapes are checked before: a part is cut from views that must match. Packed sequences go in pieces each by itself.
template <class Mixer, class Inputs, class Outputs>
void feed(const call& c, const Mixer& mixer, weft::state_t<Mixer>& state, index time, const std::vector<index>& cu, Inputs&& inputs,
          Outputs&& outputs) {
  if (c.mode == mode::literal) return weft::literal(mixer, inputs(0, time), state, outputs(0, time), cu);
  if (c.mode == mode::scan) return run_verb(c, mixer, inputs(0, time), state, outputs(0, time), false, cu);
  const auto pieces = [&](auto& from, index begin, index end) {
    for_each_piece(c.mode, end - begin, [&](index first, index count) {
      run_verb(c, mixer, inputs(begin + first, count), from, outputs(begin + first, count), c.mode == mode::step);
    });
  };
  if (cu.empty()) return pieces(state, 0, time);
  for (std::size_t n = 0; n + 1 < cu.size(); ++n) {
    auto one = state.gather({static_cast<index>(n)});
    pieces(one, cu[n], cu[n + 1]);
    put_row(one, state, static_cast<index>(n));
  }
}

// What the mixer's values look suspicious for; they are computed as written.
template <class Mixer>
void warn(const Mixer& mixer, const weft::inputs_t<Mixer>& in, results& r) {
  try {
    weft::validate(mixer, in);
  } catch (const weft::error& e) {
    r.warnings.emplace_back(e.what());
  }
}

}  // namespace ops
