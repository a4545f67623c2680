#include "common.hpp"

#include <weft/layer/any_layer.hpp>

namespace hybrid {
namespace {

// A layer as small as can be: y = x + conv(x), or without the residual.
template <class T>
struct conv_layer {
  using storage_type = T;
  using inputs = weft::hidden_inputs<T>;
  using outputs = weft::hidden_outputs<T>;
  using state_type = weft::conv_state<T>;
  static constexpr bool rehearses = true;

  weft::array<T, 2> weight;
  index taps = 3;

  explicit conv_layer(index width, unsigned seed) : weight(random<T>({width, 3}, seed)) {}
  index hidden() const { return weight.extent(0); }
  state_type state(const weft::shape& s) const { return weft::short_conv<T>{.taps = taps}.state({.batch = s.batch, .value_dim = hidden()}); }
  void check_state(const state_type& s, index sequences) const { weft::check_part("inputs", s.inputs, std::array<index, 3>{sequences, taps - 1, hidden()}); }
};

template <class T>
void forward(weft::cpu& cpu, const conv_layer<T>& l, const weft::view<const T, 3>& x, weft::conv_state<T>& state, const auto& y, const weft::layer_call& call) {
  weft::fold(cpu, weft::short_conv<T>{.taps = l.taps}, {.x = x, .weight = l.weight}, state, {.o = y}, call);
}

}  // namespace

TEST_CASE("a schedule runs layer after layer, each with its own state") {
  const index batch = 2, time = 40, width = 6;
  const conv_layer<float> a(width, 1), b(width, 2), c(width, 3);
  const auto x = random<float>({batch, time, width}, 4);
  weft::cpu cpu;
  const auto model = weft::schedule(a, b, c, a);
  auto state = model.state({.batch = batch});
  weft::array<float, 3> y(x.extent()), expected = x;
  weft::scan(cpu, model, {.x = x.view()}, state, {.y = y});
  for (const auto* l : {&a, &b, &c, &a}) {
    auto one = l->state({.batch = batch});
    weft::array<float, 3> out(x.extent());
    weft::scan(cpu, *l, {.x = expected.view()}, one, {.y = out});
    expected = out;
  }
  CHECK(same_bits(y, expected));

  auto pieces = model.state({.batch = batch});
  weft::array<float, 3> cut(x.extent());
  weft::scan(cpu, model, {.x = x.view().slice(1, 0, 17)}, pieces, {.y = cut.view().slice(1, 0, 17)});
  for (index t = 17; t < time; ++t) weft::step(cpu, model, {.x = x.view().slice(1, t, 1)}, pieces, {.y = cut.view().slice(1, t, 1)});
  CHECK(same_bits(cut, expected));
  CHECK(same_states(pieces, state));

  auto in_place = x;
  auto fresh = model.state({.batch = batch});
  weft::scan(cpu, model, {.x = in_place.view()}, fresh, {.y = in_place});
  CHECK(same_bits(in_place, expected));

  // A schedule is a layer: of a schedule, and behind any_layer.
  const auto nested = weft::erase_type(weft::schedule(weft::schedule(a, b), weft::schedule(c, a)));
  auto hidden = nested.state({.batch = batch});
  weft::scan(cpu, nested, {.x = x.view()}, hidden, {.y = cut});
  CHECK(same_bits(cut, expected));
  CHECK(hidden.parts().back().name == "1.1.inputs");
}

TEST_CASE("a schedule that is refused has not begun") {
  const conv_layer<float> a(6, 1), wide(7, 2);
  const auto x = random<float>({1, 9, 6}, 4);
  weft::cpu cpu;
  weft::array<float, 3> y(x.extent());
  const auto mixed = weft::schedule(a, wide);
  auto state = mixed.state({.batch = 1});
  auto before = state;
  CHECK(refusal(weft::errc::shape, [&] { weft::scan(cpu, mixed, {.x = x.view()}, state, {.y = y}); }) == "weft: 1.x: expected [1, 9, 7], got [1, 9, 6]");
  CHECK(same_states(state, before));
  const auto model = weft::schedule(a, a);
  auto other = model.state({.batch = 1});
  std::get<1>(other.states) = a.state({.batch = 2});
  const auto kept = other;
  CHECK(refusal(weft::errc::shape, [&] { weft::scan(cpu, model, {.x = x.view()}, other, {.y = y}); }).starts_with("weft: 1.state.inputs: expected [1,"));
  CHECK(same_states(other, kept));
  CHECK(refusal(weft::errc::shape, [&] { weft::step(cpu, model, {.x = x.view()}, other, {.y = y}); }).find("expected one token") != std::string::npos);
}

}  // namespace hybrid
