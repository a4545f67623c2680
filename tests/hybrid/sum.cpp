#include <unistd.h>

#include <filesystem>

#include "common.hpp"

namespace hybrid {
namespace {

using gated_delta = weft::gated_delta_rule<float>;
using local_attention = weft::attention<float, weft::window>;

constexpr index batch = 2, time = 50, heads = 3, dim = 8;

// The inputs of both parts look at the same tensors.
struct tokens {
  weft::array<float, 4> q = random<float>({batch, time, heads, dim}, 1), k = random<float>({batch, time, heads, dim}, 2, -0.3, 0.3),
                        v = random<float>({batch, time, heads, dim}, 3);
  weft::array<float, 3> g = random<float>({batch, time, heads}, 4, -0.2, 0.0), beta = random<float>({batch, time, heads}, 5, 0.0, 1.0);
  weft::array<float, 4> weights = random<float>({batch, time, heads, 2}, 6);

  gated_delta::inputs recurrent(index first, index count) const {
    return {.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count),
            .g = g.view().slice(1, first, count), .beta = beta.view().slice(1, first, count)};
  }
  local_attention::inputs attended(index first, index count) const {
    return {.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
  }
};
constexpr weft::shape shape{.batch = batch, .heads = heads, .key_dim = dim, .value_dim = dim};

auto recurrence_and_window() { return weft::sum(gated_delta{}, local_attention{.select = {.window = 7, .kept = 1}}); }

}  // namespace

TEST_CASE("a sum is what its parts give, and its state what they keep") {
  const tokens t;
  weft::cpu cpu;
  const auto both = recurrence_and_window();
  auto state = both.state(shape);
  weft::array<float, 4> o(t.v.extent()), a = o, b = o;
  weft::scan(cpu, both, {t.recurrent(0, time), t.attended(0, time)}, state, {.o = o});
  auto first = std::get<0>(both.mixers).state(shape);
  auto second = std::get<1>(both.mixers).state(shape);
  weft::scan(cpu, std::get<0>(both.mixers), t.recurrent(0, time), first, {.o = a});
  weft::scan(cpu, std::get<1>(both.mixers), t.attended(0, time), second, {.o = b});
  for (index i = 0; i < a.size(); ++i) a.data()[i] += b.data()[i];
  CHECK(same_bits(o, a));
  CHECK(same_states(std::get<0>(state.states), first));
  CHECK(same_states(std::get<1>(state.states), second));
  CHECK(weft::state_bytes(state) == weft::state_bytes(first) + weft::state_bytes(second));

  const auto gated = weft::gated_sum(std::get<0>(both.mixers), std::get<1>(both.mixers));
  auto other = gated.state(shape);
  weft::array<float, 4> weighted(o.extent());
  weft::scan(cpu, gated, {{t.recurrent(0, time), t.attended(0, time)}, t.weights}, other, {.o = weighted});
  weft::array<float, 4> x(o.extent());
  auto again = std::get<0>(both.mixers).state(shape);
  weft::scan(cpu, std::get<0>(both.mixers), t.recurrent(0, time), again, {.o = x});
  double worst = 0;
  for (index n = 0; n < batch; ++n)
    for (index s = 0; s < time; ++s)
      for (index h = 0; h < heads; ++h)
        for (index i = 0; i < dim; ++i)
          worst = std::max(worst, test::difference(weighted(n, s, h, i), t.weights(n, s, h, 0) * x(n, s, h, i) + t.weights(n, s, h, 1) * b(n, s, h, i)));
  CHECK(worst < 2e-6);
}

TEST_CASE("the joint state is saved under readable names and goes on anywhere") {
  const tokens t;
  weft::cpu cpu;
  const auto both = recurrence_and_window();
  auto state = both.state(shape);
  weft::array<float, 4> o(t.v.extent()), again = o;
  weft::scan(cpu, both, {t.recurrent(0, 20), t.attended(0, 20)}, state, {.o = o.view().slice(1, 0, 20)});
  const auto path = std::filesystem::temp_directory_path() / ("weft-sum-" + std::to_string(::getpid()) + ".safetensors");
  weft::save(state, path);
  std::vector<std::string> names;
  const auto file = weft::tensor_file::read(path);
  for (const auto& tensor : file.tensors()) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"0.matrix", "1.keys", "1.length", "1.values"});
  auto restored = weft::restore(both, path);
  // Another sum's file is refused.
  const auto reversed = weft::sum(local_attention{.select = {.window = 7, .kept = 1}}, gated_delta{});
  CHECK(refusal(weft::errc::file, [&] { weft::restore(reversed, path); }).find("is no part of this mixer's state") != std::string::npos);
  std::filesystem::remove(path);
  CHECK(same_states(state, restored));
  auto swapped = state.gather({1, 0}).gather({1, 0});
  for (auto* s : {&state, &restored, &swapped}) {
    weft::scan(cpu, both, {t.recurrent(20, 30), t.attended(20, 30)}, *s, {.o = (s == &state ? o : again).view().slice(1, 20, 30)});
    CHECK(same_states(*s, state));
  }
}

TEST_CASE("mixers of the same inputs share one") {
  const tokens t;
  weft::cpu cpu;
  const auto two = weft::sum(local_attention{.select = {.window = 3}}, local_attention{.select = {.window = 9}}, local_attention{.select = {.window = 1}});
  auto state = two.state(shape);
  weft::array<float, 4> o(t.v.extent()), x = o;
  weft::scan(cpu, two, {.q = t.q.view(), .k = t.k.view(), .v = t.v.view()}, state, {.o = o});
  weft::array<float, 4> expected(o.extent());
  for (const index w : {3, 9, 1}) {
    const local_attention one{.select = {.window = w}};
    auto s = one.state(shape);
    weft::scan(cpu, one, t.attended(0, time), s, {.o = x});
    for (index i = 0; i < x.size(); ++i) expected.data()[i] += x.data()[i];
  }
  CHECK(same_bits(o, expected));
}

TEST_CASE("a sum within a sum, with parts of shapes of their own") {
  const tokens t;
  weft::cpu cpu;
  const auto inner = recurrence_and_window();
  const auto outer = weft::sum(inner, weft::rat<float>{.chunk_size = 5});
  const auto rat_gates = random<float>({batch, time, heads, dim}, 9, -1.0, 0.0);
  auto state = outer.states({{shape, {.batch = batch, .heads = heads, .key_dim = dim, .value_dim = dim, .capacity = time}}});
  weft::array<float, 4> o(t.v.extent()), spelt = o;
  const decltype(outer)::inputs in{{t.recurrent(0, time), t.attended(0, time)}, {.q = t.q.view(), .k = t.k.view(), .v = t.v.view(), .g = rat_gates.view()}};
  auto other = state;
  weft::scan(cpu, outer, in, state, {.o = o});
  weft::literal(outer, in, other, {.o = spelt});
  CHECK(largest_difference(o, spelt) < 1e-5);
  std::vector<std::string> names;
  weft::for_each_part(state, [&](const auto& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "0.0.matrix");
  CHECK(names.back() == "1.held");
  weft::validate(outer, in);
}

TEST_CASE("an error says whose tensor it was, and no part has moved on") {
  const tokens t;
  weft::cpu cpu;
  const auto both = recurrence_and_window();
  auto state = both.state(shape);
  const auto before = state;
  weft::array<float, 4> o(t.v.extent());
  const auto says = [&](weft::errc code, auto&& spoil) {
    decltype(both)::inputs in{t.recurrent(0, time), t.attended(0, time)};
    spoil(in);
    const std::string what = refusal(code, [&] { weft::scan(cpu, both, in, state, {.o = o}); });
    CHECK(what == refusal(code, [&] { weft::literal(both, in, state, {.o = o}); }));
    CHECK(same_states(state, before));
    return what;
  };
  CHECK(says(weft::errc::shape, [](auto& in) { std::get<1>(in).v.extent[3] = 7; }) == "weft: 1.v: expected [2, 50, 3, 8], got [2, 50, 3, 7]");
  CHECK(says(weft::errc::missing, [](auto& in) { std::get<0>(in).q = {}; }) == "weft: 0.q: expected [2, 50, 3, 8], got a null view");
  std::get<1>(state.states) = std::get<1>(both.mixers).state({.batch = 3, .heads = heads, .key_dim = dim, .value_dim = dim});
  CHECK(refusal(weft::errc::shape, [&] { weft::scan(cpu, both, {t.recurrent(0, time), t.attended(0, time)}, state, {.o = o}); })
            .starts_with("weft: 1.state.keys: expected 2 sequences, got 3"));
  CHECK(same_states(std::get<0>(state.states), std::get<0>(before.states)));

  const auto gated = weft::gated_sum(gated_delta{}, local_attention{});
  auto other = gated.state({.batch = batch, .heads = heads, .key_dim = dim, .value_dim = dim, .capacity = time});
  const auto weights = random<float>({batch, time, heads, 3}, 1);
  CHECK(refusal(weft::errc::shape, [&] { weft::scan(cpu, gated, {{t.recurrent(0, time), t.attended(0, time)}, weights}, other, {.o = o}); }) ==
        "weft: weights: expected [2, 50, 3, 2], got [2, 50, 3, 3]");
}

}  // namespace hybrid
