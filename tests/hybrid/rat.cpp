#include "common.hpp"

namespace hybrid {
namespace {

template <class T>
weft::array<T, 4> literal(const weft::rat<T>& mixer, const rat_problem<T>& p, weft::rat_state<weft::accumulate_t<T>>& state) {
  weft::array<T, 4> o(p.o.extent());
  weft::literal(mixer, p.inputs(), state, {.o = o});
  return o;
}

TEST_CASE("value heads read the shared heads in turn, in every form") {
  for (const index chunk : {1, 4, 16, 150, 400}) {
    const weft::rat<double> mixer{.chunk_size = chunk, .rope_base = 50};
    const rat_problem<double> p(2, 201, 2, 6, 10);
    weft::cpu cpu;
    auto whole = mixer.state(p.shape()), pieces = whole, steps = whole, spelt = whole;
    const auto expected = literal(mixer, p, spelt);
    weft::array<double, 4> o(p.o.extent()), cut = o, one = o;
    weft::scan(cpu, mixer, p.inputs(), whole, {.o = o});
    for (const auto& [first, count] : {std::pair<index, index>{0, 37}, {37, 0}, {37, 100}, {137, 64}})
      weft::scan(cpu, mixer, p.inputs(first, count), pieces, {.o = cut.view().slice(1, first, count)});
    for (index t = 0; t < 201; ++t) weft::step(cpu, mixer, p.inputs(t, 1), steps, {.o = one.view().slice(1, t, 1)});
    CAPTURE(chunk);
    CHECK(largest_difference(o, expected) < 1e-14);
    CHECK(largest_difference(cut, expected) < 1e-14);
    CHECK(largest_difference(one, expected) < 1e-14);
    CHECK(largest_difference(steps.chunks.keys, spelt.chunks.keys) < 1e-14);
    CHECK(largest_difference(pieces.value, spelt.value) < 1e-14);
    CHECK(same_bits(whole.held, spelt.held));
    CHECK(same_bits(whole.chunks.length, spelt.chunks.length));
  }
  // Head h of six reads group h mod 2: the two groups exchanged are the heads exchanged in pairs.
  const weft::rat<double> mixer{.chunk_size = 4};
  const rat_problem<double> p(1, 30, 2, 6, 8);
  rat_problem<double> turned(1, 30, 2, 6, 8);
  for (index t = 0; t < 30; ++t)
    for (index i = 0; i < 8; ++i) {
      for (index h = 0; h < 2; ++h) turned.q(0, t, h, i) = p.q(0, t, 1 - h, i), turned.k(0, t, h, i) = p.k(0, t, 1 - h, i);
      for (index h = 0; h < 6; ++h) turned.v(0, t, h, i) = p.v(0, t, h ^ 1, i), turned.g(0, t, h, i) = p.g(0, t, h ^ 1, i);
    }
  weft::cpu cpu;
  auto a = mixer.state(p.shape()), b = a;
  weft::array<double, 4> o(p.o.extent()), other = o;
  weft::scan(cpu, mixer, p.inputs(), a, {.o = o});
  weft::scan(cpu, mixer, turned.inputs(), b, {.o = other});
  bool exchanged = true;
  for (index t = 0; t < 30; ++t)
    for (index h = 0; h < 6; ++h)
      for (index i = 0; i < 8; ++i) exchanged &= o(0, t, h, i) == other(0, t, h ^ 1, i);
  CHECK(exchanged);
}

TEST_CASE("chunks of one token that forget all are causal attention") {
  const weft::rat<float> mixer{.chunk_size = 1, .rope_base = 0};
  rat_problem<float> p(1, 150, 3, 3, 16);
  for (index i = 0; i < p.g.size(); ++i) p.g.data()[i] = -INFINITY;
  weft::cpu cpu;
  auto state = mixer.state(p.shape());
  weft::scan(cpu, mixer, p.inputs(), state, {.o = p.o});
  const weft::attention<float> dense;
  auto cache = dense.state({.batch = 1, .heads = 3, .key_dim = 16, .value_dim = 16, .capacity = 150});
  weft::array<float, 4> o(p.o.extent());
  weft::scan(cpu, dense, {.q = p.q.view(), .k = p.k.view(), .v = p.v.view()}, cache, {.o = o});
  CHECK(largest_difference(p.o, o) < 2e-6);
}

TEST_CASE("a chunk longer than the sequence is a gated recurrence of the values") {
  const weft::rat<double> mixer{.chunk_size = 1000};
  const rat_problem<double> p(1, 300, 1, 1, 4);
  weft::cpu cpu;
  auto state = mixer.state(p.shape());
  weft::array<double, 4> o(p.o.extent());
  weft::scan(cpu, mixer, p.inputs(), state, {.o = o});
  double worst = 0;
  for (index i = 0; i < 4; ++i) {
    double v = 0;
    for (index t = 0; t < 300; ++t) {
      const double f = std::exp(p.g(0, t, 0, i));
      v = f * v + (1 - f) * p.v(0, t, 0, i);
      worst = std::max(worst, test::difference(v, o(0, t, 0, i)));
    }
  }
  CHECK(worst < 1e-14);
  CHECK(state.held(0) == 300);
  CHECK(state.chunks.capacity() == 0);
}

TEST_CASE("packed sequences each start their own chunks") {
  const weft::rat<double> mixer{.chunk_size = 8};
  const rat_problem<double> p(1, 90, 1, 2, 6);
  const std::vector<index> cu{0, 13, 13, 60, 90};
  weft::cpu cpu;
  weft::shape shape = p.shape();
  shape.batch = 4;
  auto packed = mixer.state(shape);
  weft::array<double, 4> o(p.o.extent()), each(p.o.extent());
  weft::scan(cpu, mixer, p.inputs(), packed, {.o = o}, cu);
  for (std::size_t n = 0; n < 4; ++n) {
    auto one = mixer.state(p.shape());
    const index count = cu[n + 1] - cu[n];
    weft::scan(cpu, mixer, p.inputs(cu[n], count), one, {.o = each.view().slice(1, cu[n], count)});
    const auto row = packed.gather({static_cast<index>(n)});
    CHECK(largest_difference(row.key, one.key) < 1e-15);
    CHECK(row.held(0) == one.held(0));
    CHECK(row.chunks.length(0) == one.chunks.length(0));
  }
  CHECK(largest_difference(o, each) < 1e-14);
}

TEST_CASE("a full RAT state is an error until it grows") {
  const weft::rat<float> mixer{.chunk_size = 4};
  rat_problem<float> p(1, 20, 1, 1, 4);
  weft::cpu cpu;
  auto state = mixer.state({.batch = 1, .heads = 1, .key_dim = 4, .value_dim = 4, .capacity = 11});  // two chunks and three tokens
  weft::scan(cpu, mixer, p.inputs(0, 11), state, {.o = p.o.view().slice(1, 0, 11)});
  const auto before = state;
  const auto more = [&] { weft::step(cpu, mixer, p.inputs(11, 1), state, {.o = p.o.view().slice(1, 11, 1)}); };
  CHECK(refusal(weft::errc::capacity, more).starts_with("weft: state.chunk_keys: sequence 0 holds 2 of 2 chunks"));
  CHECK(same_states(state, before));
  state.grow(3);
  more();
  CHECK(state.chunks.length(0) == 3);
  CHECK(state.held(0) == 0);
}

TEST_CASE("RAT refuses what it cannot mean") {
  const rat_problem<float> p(1, 6, 2, 4, 4);
  weft::cpu cpu;
  const weft::rat<float> good{.chunk_size = 4};
  weft::array<float, 4> o(p.o.extent());
  const auto says = [&](const weft::rat<float>& mixer, weft::errc code, auto&& spoil) {
    auto state = good.state(p.shape());
    auto in = p.inputs();
    spoil(in, state);
    const auto before = state;
    const std::string scanned = refusal(code, [&] { weft::scan(cpu, mixer, in, state, {.o = o}); });
    CHECK(scanned == refusal(code, [&] { weft::literal(mixer, in, state, {.o = o}); }));
    CHECK(same_states(state, before));
    return scanned;
  };
  using weft::errc;
  const auto nothing = [](auto&, auto&) {};
  CHECK(says({.chunk_size = 0}, errc::value, nothing) == "weft: chunk_size: expected at least 1, got 0");
  CHECK(says({.chunk_size = weft::every_key}, errc::value, nothing).starts_with("weft: chunk_size: expected at most"));
  CHECK(says({.rope_base = -1}, errc::value, nothing).starts_with("weft: rope_base:"));
  CHECK(says({.scale = NAN}, errc::value, nothing).starts_with("weft: scale:"));
  CHECK(says(good, errc::heads, [](auto& in, auto&) { in.q.extent[2] = in.k.extent[2] = 3; }) ==
        "weft: q: expected a head count that divides 4 value heads, got 3");
  CHECK(says(good, errc::shape, [](auto& in, auto&) { in.k.extent[2] = 1; }) == "weft: k: expected [1, 6, 2, 4], got [1, 6, 1, 4]");
  CHECK(says(good, errc::shape, [](auto&, auto& s) { s = weft::rat<float>{}.state({.batch = 2, .heads = 4, .key_dim = 4, .value_dim = 4, .capacity = 99}); })
            .starts_with("weft: state.chunk_keys: expected [1, 4,"));
  CHECK(says(good, errc::shape, [](auto&, auto& s) { s.value = weft::array<float, 3>({1, 4, 5}); }) == "weft: state.value: expected [1, 4, 4], got [1, 4, 5]");
  CHECK(says(good, errc::value, [](auto&, auto& s) { s.held(0) = 4; }).starts_with("weft: state.held: expected 0 to 3 tokens"));
  CHECK(says(good, errc::value, [](auto&, auto& s) { s.chunks.length(0) = -1; }).starts_with("weft: state.chunks: expected 0 to 1"));
  CHECK(says(good, errc::missing, [](auto&, auto& s) { s = {}; }).starts_with("weft: state: expected one made by state()"));
  CHECK(refusal(errc::shape, [&] { good.state({.batch = 1, .heads = 1, .key_dim = 4, .value_dim = 5}); }).starts_with("weft: value_dim:"));
  const rat_problem<float> odd(1, 3, 1, 1, 5);
  auto state = good.state(odd.shape());
  weft::array<float, 4> odd_o(odd.o.extent());
  CHECK(refusal(errc::shape, [&] { weft::scan(cpu, good, odd.inputs(), state, {.o = odd_o}); }).starts_with("weft: q: expected an even width"));
}

TEST_CASE("validate names what RAT would compute as written") {
  rat_problem<float> p(1, 6, 1, 1, 4);
  const weft::rat<float> mixer;
  weft::validate(mixer, p.inputs());
  p.g(0, 3, 0, 1) = -INFINITY;
  weft::validate(mixer, p.inputs());
  p.g(0, 3, 0, 1) = 0.25f;
  CHECK(refusal(weft::errc::value, [&] { weft::validate(mixer, p.inputs()); }) == "weft: g: expected a log-decay of at most 0, got 0.25 at [0, 3, 0, 1]");
  p.v(0, 2, 0, 0) = NAN;
  CHECK(refusal(weft::errc::value, [&] { weft::validate(mixer, p.inputs()); }).starts_with("weft: v: expected finite numbers, got nan"));
}

}  // namespace
}  // namespace hybrid
