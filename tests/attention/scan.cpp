// The literal form against the definition; scan and step against the literal form.
#include "common.hpp"

namespace attention_test {

namespace {

template <class M, class T>
void hold(const M& mixer, const sizes& s, bool sink, double bound, const std::function<bool(index, index)>& sees) {
  CAPTURE(s.batch, s.time, s.query_heads, s.heads, s.key_dim, s.value_dim, sink);
  call<T> c(s);
  weft::array<double, 4> o;
  weft::array<double, 3> lse;
  naive(c, mixer.scale_for(s.key_dim), mixer.softcap, sink, sees, o, lse);
  const weft::shape shape{.batch = s.batch, .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.time};

  auto state = mixer.state(shape);
  weft::literal(mixer, c.inputs(mixer, sink), state, c.outputs(mixer));
  CHECK(largest_difference(c.o, o) <= bound);
  CHECK(largest_difference(c.lse, lse) <= bound);

  weft::cpu cpu;
  call<T> d(s);
  auto scanned = mixer.state(shape);
  weft::scan(cpu, mixer, d.inputs(mixer, sink), scanned, d.outputs(mixer));
  CHECK(largest_difference(d.o, o) <= bound);
  CHECK(largest_difference(d.lse, lse) <= bound);
  CHECK(same_bits(state.keys, scanned.keys));
  CHECK(same_bits(state.values, scanned.values));
  CHECK(same_bits(state.length, scanned.length));

  if (!mixer.causal) return;
  call<T> e(s);
  auto stepped = mixer.state(shape);
  for (index t = 0; t < s.time; ++t) weft::step(cpu, mixer, e.slice(mixer, t, 1, sink), stepped, e.outputs(mixer, t, 1));
  CHECK(largest_difference(e.o, o) <= bound);
  CHECK(largest_difference(e.lse, lse) <= bound);
  CHECK(same_bits(state.keys, stepped.keys));
}

const sizes shapes[] = {
    {2, 37, 6, 2, 8, 5},   {1, 1, 1, 1, 3, 3},    {1, 130, 2, 2, 16, 24}, {1, 200, 3, 1, 33, 17},
    {2, 70, 4, 4, 64, 64}, {1, 90, 9, 1, 20, 40}, {1, 65, 1, 1, 128, 128},
};

}  // namespace

TEST_CASE("dense causal attention is the definition") {
  for (const sizes& s : shapes)
    for (const bool sink : {false, true}) {
      hold<weft::attention<double>, double>({}, s, sink, 1e-13, [](index p, index j) { return j <= p; });
      hold<weft::attention<float>, float>({}, s, sink, 2e-6, [](index p, index j) { return j <= p; });
    }
}

TEST_CASE("bidirectional attention reads the whole call") {
  for (const sizes& s : shapes) {
    hold<weft::attention<double>, double>({.causal = false}, s, false, 1e-13, [](index, index) { return true; });
    hold<weft::attention<float, weft::window>, float>({.select = {.window = 7}, .causal = false}, s, false, 2e-6,
                                                      [](index p, index j) { return std::abs(p - j) < 7; });
  }
}

TEST_CASE("a window reads its keys and the kept ones") {
  for (const sizes& s : shapes)
    for (const index w : {index(1), index(5), index(64), index(1000)})
      for (const index kept : {index(0), index(1), index(9), index(70)}) {
        CAPTURE(w, kept);
        const auto sees = [&](index p, index j) { return j <= p && (j > p - w || j < kept); };
        hold<weft::attention<double, weft::window>, double>({.select = {w, kept}}, s, true, 1e-13, sees);
        hold<weft::attention<float, weft::window>, float>({.select = {w, kept}}, s, false, 2e-6, sees);
      }
}

TEST_CASE("window 0 is no window") {
  hold<weft::attention<float, weft::window>, float>({.select = {.window = 0, .kept = 3}}, shapes[0], true, 2e-6, [](index p, index j) { return j <= p; });
}

TEST_CASE("soft cap and scale") {
  for (const sizes& s : shapes) {
    hold<weft::attention<double>, double>({.scale = 0.7, .softcap = 2}, s, true, 1e-13, [](index p, index j) { return j <= p; });
    hold<weft::attention<float>, float>({.scale = 0.7, .softcap = 2}, s, true, 3e-6, [](index p, index j) { return j <= p; });
    hold<weft::attention<float>, float>({.softcap = 50}, s, false, 4e-6, [](index p, index j) { return j <= p; });
  }
}

TEST_CASE("16-bit storage loses nothing but its own rounding") {
  // Inputs are rounded when they are made, sums are in float, so only the rounding of o itself is left.
  for (const sizes& s : shapes) {
    hold<weft::attention<weft::bf16>, weft::bf16>({}, s, false, 0.02, [](index p, index j) { return j <= p; });
    hold<weft::attention<weft::fp16>, weft::fp16>({}, s, false, 0.003, [](index p, index j) { return j <= p; });
    call<weft::bf16> c(s);
    const weft::attention<weft::bf16> mixer;
    weft::array<double, 4> o;
    weft::array<double, 3> lse;
    naive(c, mixer.scale_for(s.key_dim), 0, false, [](index p, index j) { return j <= p; }, o, lse);
    weft::array<float, 4> wide(c.o.extent());
    auto state = mixer.state({.batch = s.batch, .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.time});
    weft::cpu cpu;
    weft::scan(cpu, mixer, c.inputs(mixer), state, {.o = wide});
    CHECK(largest_difference(wide, o) <= 2e-6);
  }
}

TEST_CASE("long decoding merges segments of keys") {
  const sizes s{1, 5000, 4, 2, 16, 16};
  const weft::attention<float> mixer;
  call<float> c(s);
  weft::cpu cpu;
  auto state = mixer.state({.batch = 1, .heads = 2, .key_dim = 16, .value_dim = 16, .capacity = 5000});
  weft::scan(cpu, mixer, c.inputs(mixer), state, c.outputs(mixer));
  auto decoded = mixer.state({.batch = 1, .heads = 2, .key_dim = 16, .value_dim = 16, .capacity = 5000});
  weft::append(mixer, weft::view<const float, 4>(c.k).slice(1, 0, 4997), weft::view<const float, 4>(c.v).slice(1, 0, 4997), decoded);
  call<float> d(s);
  weft::scan(cpu, mixer, d.slice(mixer, 4997, 3), decoded, d.outputs(mixer, 4997, 3));
  weft::array<float, 4> x({1, 3, 4, 16}), y({1, 3, 4, 16});
  for (index t = 0; t < 3; ++t)
    for (index h = 0; h < 4; ++h)
      for (index i = 0; i < 16; ++i) x(0, t, h, i) = c.o(0, 4997 + t, h, i), y(0, t, h, i) = d.o(0, 4997 + t, h, i);
  CHECK(largest_difference(x, y) <= 1e-6);
}

}  // namespace attention_test
