#include "common.hpp"

namespace hybrid {
namespace {

TEST_CASE("Aaren is causal attention of one query that every token asks") {
  const index time = 300, heads = 2, dim = 12;
  const auto q = random<double>({heads, dim}, 1);
  const auto k = random<double>({1, time, heads, dim}, 2), v = random<double>({1, time, heads, 40}, 3);
  weft::array<double, 4> repeated({1, time, heads, dim}), o({1, time, heads, 40}), expected = o;
  for (index t = 0; t < time; ++t) std::copy_n(q.data(), q.size(), &repeated(0, t, 0, 0));
  weft::cpu cpu;
  const weft::aaren<double> mixer;
  auto state = mixer.state({.batch = 1, .heads = heads, .value_dim = 40});
  weft::scan(cpu, mixer, {.q = q.view(), .k = k.view(), .v = v.view()}, state, {.o = o});
  const weft::attention<double> dense;
  auto cache = dense.state({.batch = 1, .heads = heads, .key_dim = dim, .value_dim = 40, .capacity = time});
  weft::scan(cpu, dense, {.q = repeated.view(), .k = k.view(), .v = v.view()}, cache, {.o = expected});
  CHECK(largest_difference(o, expected) < 1e-14);
}

TEST_CASE("Aaren streams: pieces and steps are the whole, bit for bit") {
  const index time = 70;
  const auto q = random<float>({3, 20}, 1);
  const auto k = random<float>({2, time, 3, 20}, 2), v = random<float>({2, time, 3, 70}, 3);
  weft::cpu cpu;
  const weft::aaren<float> mixer{.scale = 3.0};
  const auto piece = [&](index first, index count) -> weft::aaren<float>::inputs {
    return {.q = q.view(), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
  };
  weft::array<float, 4> whole({2, time, 3, 70}), pieces = whole, steps = whole;
  auto a = mixer.state({.batch = 2, .heads = 3, .value_dim = 70}), b = a, c = a;
  weft::scan(cpu, mixer, piece(0, time), a, {.o = whole});
  weft::scan(cpu, mixer, piece(0, 41), b, {.o = pieces.view().slice(1, 0, 41)});
  weft::scan(cpu, mixer, piece(41, time - 41), b, {.o = pieces.view().slice(1, 41, time - 41)});
  for (index t = 0; t < time; ++t) weft::step(cpu, mixer, piece(t, 1), c, {.o = steps.view().slice(1, t, 1)});
  CHECK(same_bits(whole, pieces));
  CHECK(same_bits(whole, steps));
  CHECK(same_states(a, b));
  CHECK(same_states(a, c));
}

TEST_CASE("scores of -inf weigh nothing, also all of them") {
  const weft::array<float, 2> q = random<float>({1, 1}, 1, 1.0, 1.0);
  weft::array<float, 4> k({1, 20, 1, 1}), v = random<float>({1, 20, 1, 3}, 2), o = v, spelt = v;
  for (index t = 0; t < 20; ++t) k(0, t, 0, 0) = t == 5 ? 1.f : -INFINITY;
  weft::cpu cpu;
  const weft::aaren<float> mixer;
  auto state = mixer.state({.batch = 1, .heads = 1, .value_dim = 3}), other = state;
  weft::scan(cpu, mixer, {.q = q.view(), .k = k.view(), .v = v.view()}, state, {.o = o});
  weft::literal(mixer, {.q = q.view(), .k = k.view(), .v = v.view()}, other, {.o = spelt});
  CHECK(same_bits(o, spelt));
  CHECK(o(0, 4, 0, 1) == 0.f);
  CHECK(o(0, 19, 0, 1) == v(0, 5, 0, 1));
}

TEST_CASE("Aaren refuses what does not fit") {
  const weft::array<float, 2> q({2, 3});
  const weft::array<float, 4> k({1, 4, 2, 3}), v({1, 4, 2, 5});
  weft::array<float, 4> o({1, 4, 2, 5});
  const weft::aaren<float> mixer;
  weft::cpu cpu;
  const auto says = [&](weft::errc code, const weft::shape& shape, auto&& spoil) {
    weft::aaren<float>::inputs in{.q = q.view(), .k = k.view(), .v = v.view()};
    auto state = mixer.state(shape);
    spoil(in);
    return refusal(code, [&] { weft::scan(cpu, mixer, in, state, {.o = o}); });
  };
  const weft::shape good{.batch = 1, .heads = 2, .value_dim = 5};
  using weft::errc;
  CHECK(says(errc::shape, good, [](auto& in) { in.q.extent[1] = 4; }) == "weft: q: expected [2, 3], got [2, 4]");
  CHECK(says(errc::shape, good, [](auto& in) { in.k.extent[2] = 1; }) == "weft: k: expected [1, 4, 2, 3], got [1, 4, 1, 3]");
  CHECK(says(errc::shape, {.batch = 1, .heads = 3, .value_dim = 5}, [](auto&) {}) == "weft: q: expected [3, 3], got [2, 3]");
  CHECK(says(errc::shape, {.batch = 2, .heads = 2, .value_dim = 5}, [](auto&) {}) == "weft: state.m: expected [1, 2], got [2, 2]");
  CHECK(says(errc::missing, good, [](auto& in) { in.v = {}; }) == "weft: v: expected [1, 4, 2, 5], got a null view");
}

}  // namespace
}  // namespace hybrid
