// Splits, resumes, packed sequences, rings against growing caches, full caches, rows in another order.
#include <weft/io/state_file.hpp>

#include <cstdint>
#include <filesystem>
#include <limits>

#include "common.hpp"

namespace attention_test {
namespace {

using full = weft::attention<float>;
using local = weft::attention<float, weft::window>;

weft::shape shape_of(const sizes& s, index capacity) {
  return {.batch = s.batch, .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = capacity};
}

template <class M>
typename M::state_type run_pieces(const M& m, call<float>& c, const sizes& s, index capacity, const std::vector<index>& cuts) {
  weft::cpu cpu;
  auto state = m.state(shape_of(s, capacity));
  index begin = 0;
  for (const index end : cuts) {
    weft::scan(cpu, m, c.slice(m, begin, end - begin), state, c.outputs(m, begin, end - begin));
    begin = end;
  }
  return state;
}

}  // namespace

TEST_CASE("a scan cut anywhere gives what the unbroken one gives") {
  const sizes s{2, 333, 4, 2, 24, 16};
  const std::vector<std::vector<index>> cuts{{0, 0, 1, 333}, {111, 167, 333}, {320, 321, 322, 323, 333}, {5, 6, 130, 300, 333, 333}};
  const auto hold = [&](const auto& m) {
    call<float> whole(s);
    const auto end = run_pieces(m, whole, s, 333, {333});
    for (const auto& cut : cuts) {
      call<float> pieces(s);
      const auto state = run_pieces(m, pieces, s, 333, cut);
      CHECK(largest_difference(whole.o, pieces.o) <= 1e-6);
      CHECK(largest_difference(whole.lse, pieces.lse) <= 2e-6);
      CHECK(same_bits(end.keys, state.keys));
      CHECK(same_bits(end.values, state.values));
      CHECK(same_bits(end.length, state.length));
    }
  };
  hold(full{});
  hold(local{.select = {.window = 40, .kept = 3}});
  hold(local{.select = {.window = 1}});
}

TEST_CASE("a ring gives what a cache of all tokens gives, and stays as small as its window") {
  const sizes s{1, 400, 2, 1, 16, 8};
  for (const index window : {index(1), index(2), index(33), index(64)})
    for (const index kept : {index(0), index(1), index(5)}) {
      CAPTURE(window, kept);
      const local ring{.select = {.window = window, .kept = kept}};
      call<float> a(s), b(s);
      weft::array<double, 4> o;
      weft::array<double, 3> lse;
      naive(a, ring.scale_for(16), 0, false, [&](index p, index j) { return j <= p && (j > p - window || j < kept); }, o, lse);
      const auto state = run_pieces(ring, a, s, 0, {90, 91, 92, 200, 390, 391, 400});
      CHECK(largest_difference(a.o, o) <= 2e-6);
      CHECK(state.capacity() == window - 1 + kept);
      CHECK(state.length(0) == 400);
      // More room than a window needs is not taken; less is a cache that can fill up.
      CHECK(ring.state(shape_of(s, 4096)).capacity() == window - 1 + kept);
    }
}

TEST_CASE("packed sequences are separate ones, empty ones included") {
  const sizes s{1, 150, 4, 2, 12, 20};
  const index cu[] = {0, 0, 70, 71, 71, 150};
  for (const bool ring : {false, true}) {
    const local m{.select = {.window = ring ? 16 : 0, .kept = 2}};
    call<float> packed(s);
    weft::cpu cpu;
    auto sequences = m.state({.batch = 5, .heads = 2, .key_dim = 12, .value_dim = 20, .capacity = 150});
    weft::scan(cpu, m, packed.inputs(m), sequences, packed.outputs(m), cu);
    for (std::size_t n = 0; n < 5; ++n) {
      call<float> one(s);
      auto alone = m.state(shape_of(s, 150));
      weft::scan(cpu, m, one.slice(m, cu[n], cu[n + 1] - cu[n]), alone, one.outputs(m, cu[n], cu[n + 1] - cu[n]));
      const auto row = sequences.gather({static_cast<index>(n)});
      CHECK(same_bits(row.keys, alone.keys));
      CHECK(row.length(0) == cu[n + 1] - cu[n]);
      for (index t = cu[n]; t < cu[n + 1]; ++t) CHECK(std::memcmp(&packed.o(0, t, 0, 0), &one.o(0, t, 0, 0), 4 * 20 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a full cache is an error before anything is written, and grows when asked") {
  const sizes s{1, 10, 2, 2, 8, 8};
  const full m;
  call<float> c(s);
  weft::cpu cpu;
  auto state = m.state(shape_of(s, 8));
  weft::scan(cpu, m, c.slice(m, 0, 7), state, c.outputs(m, 0, 7));
  const auto before = state;
  std::fill_n(c.o.data(), c.o.size(), 7.f);
  const auto code = [&](auto&& f) {
    try {
      f();
    } catch (const weft::error& e) {
      return e.code();
    }
    return weft::errc::file;
  };
  CHECK(code([&] { weft::scan(cpu, m, c.slice(m, 7, 3), state, c.outputs(m, 7, 3)); }) == weft::errc::capacity);
  CHECK(code([&] { weft::literal(m, c.slice(m, 7, 3), state, c.outputs(m, 7, 3)); }) == weft::errc::capacity);
  CHECK(code([&] { weft::append(m, weft::view<const float, 4>(c.k).slice(1, 7, 3), weft::view<const float, 4>(c.v).slice(1, 7, 3), state); }) ==
        weft::errc::capacity);
  CHECK(same_bits(before.keys, state.keys));
  CHECK(state.length(0) == 7);
  CHECK(c.o(0, 7, 0, 0) == 7.f);
  CHECK(code([&] { state.grow(4); }) == weft::errc::value);
  state.grow(10);
  weft::scan(cpu, m, c.slice(m, 7, 3), state, c.outputs(m, 7, 3));

  call<float> whole(s);
  auto once = m.state(shape_of(s, 10));
  weft::scan(cpu, m, whole.inputs(m), once, whole.outputs(m));
  CHECK(same_bits(once.keys, state.keys));
  CHECK(std::abs(whole.o(0, 9, 1, 3) - c.o(0, 9, 1, 3)) <= 1e-6f);
}

TEST_CASE("surplus keys go into the cache first") {
  const sizes s{2, 60, 4, 2, 8, 8};
  for (const index window : {index(0), index(9)}) {
    const local m{.select = {.window = window}};
    call<float> whole(s), late(s);
    const auto end = run_pieces(m, whole, s, 60, {60});
    auto state = m.state(shape_of(s, 60));
    weft::append(m, weft::view<const float, 4>(late.k).slice(1, 0, 47), weft::view<const float, 4>(late.v).slice(1, 0, 47), state);
    weft::cpu cpu;
    weft::scan(cpu, m, late.slice(m, 47, 13), state, late.outputs(m, 47, 13));
    CHECK(same_bits(end.keys, state.keys));
    for (index b = 0; b < 2; ++b)
      for (index t = 47; t < 60; ++t)
        for (index h = 0; h < 4; ++h) CHECK(std::abs(whole.lse(b, t, h) - late.lse(b, t, h)) <= 2e-6f);
  }
}

TEST_CASE("surplus keys that cannot be are refused, and the cache stays") {
  const sizes s{2, 6, 4, 2, 8, 8};
  const local m{.select = {.window = 4}};
  call<float> c(s);
  auto state = m.state(shape_of(s, 6));
  const auto before = state;
  for (const auto& [batch, time] : {std::pair<index, index>{2, -98}, {-2, 6}, {2, index{1} << 60}}) {
    const weft::view<const float, 4> k(c.k.data(), {batch, time, 2, 8}), v(c.v.data(), k.extent);
    CHECK_THROWS_AS(weft::append(m, k, v, state), weft::error);
    CHECK(state.length(0) == before.length(0));
  }
}

TEST_CASE("a saved cache that lies about itself is refused") {
  const auto file = std::filesystem::temp_directory_path() / ("weft-lying-cache-" + std::to_string(std::random_device{}()));
  const auto refusal = [&](const auto& m, const auto& cache) {
    weft::save(cache, file);
    std::string text;
    try {
      weft::restore(m, file);
    } catch (const weft::error& e) {
      text = e.what();
    }
    std::filesystem::remove(file);
    return text;
  };
  constexpr auto longest = std::numeric_limits<std::int64_t>::max();
  const sizes s{2, 1, 2, 2, 8, 4};
  const full m;
  auto cache = m.state(shape_of(s, 8));
  const auto with_length = [&](auto c, std::int64_t n) { return c.length(1) = n, c; };
  CHECK(refusal(m, with_length(cache, 8)).empty());
  CHECK(refusal(m, with_length(cache, -7)) == "weft: length: expected 0 to " + std::to_string(longest / 2) + " tokens, got -7 for sequence 1");
  CHECK(refusal(m, with_length(cache, 9)) == "weft: length: expected 0 to 8 tokens, got 9 for sequence 1");

  const local ring{.select = {.window = 4, .kept = 1}};
  auto turning = ring.state(shape_of(s, 0));
  CHECK(refusal(ring, with_length(turning, 1000)).empty());
  CHECK(refusal(ring, with_length(turning, -1)).starts_with("weft: length: expected 0 to "));
  CHECK(refusal(ring, with_length(turning, longest)).starts_with("weft: length: expected 0 to "));

  auto narrow = cache;
  narrow.values = weft::array<float, 4>({2, 2, 7, 4});
  CHECK(refusal(m, narrow) == "weft: values: expected the slots of keys, 8, got 7");
  narrow.values = weft::array<float, 4>({2, 1, 8, 4});
  CHECK(refusal(m, narrow) == "weft: values: expected the key heads of keys, 2, got 1");
}

TEST_CASE("gathered rows go on as the rows they came from") {
  const sizes s{3, 20, 2, 1, 8, 8};
  const local m{.select = {.window = 6, .kept = 1}};
  call<float> c(s);
  weft::cpu cpu;
  auto state = m.state(shape_of(s, 0));
  weft::scan(cpu, m, c.slice(m, 0, 19), state, c.outputs(m, 0, 19));
  auto rows = state.gather({2, 0});
  weft::step(cpu, m, c.slice(m, 19, 1), state, c.outputs(m, 19, 1));
  call<float> d({2, 1, 2, 1, 8, 8});
  for (index i = 0; i < 2; ++i) {
    std::copy_n(&c.q(i == 0 ? 2 : 0, 19, 0, 0), 16, &d.q(i, 0, 0, 0));
    std::copy_n(&c.k(i == 0 ? 2 : 0, 19, 0, 0), 8, &d.k(i, 0, 0, 0));
    std::copy_n(&c.v(i == 0 ? 2 : 0, 19, 0, 0), 8, &d.v(i, 0, 0, 0));
  }
  weft::step(cpu, m, d.inputs(m), rows, d.outputs(m));
  CHECK(std::memcmp(&d.o(0, 0, 0, 0), &c.o(2, 19, 0, 0), 16 * sizeof(float)) == 0);
  CHECK(std::memcmp(&d.o(1, 0, 0, 0), &c.o(0, 19, 0, 0), 16 * sizeof(float)) == 0);
}

}  // namespace attention_test
