// NaN stays where it belongs, outputs in place, any number of threads, and the table of bad input.
#include "common.hpp"

namespace attention_test {
namespace {

using full = weft::attention<float>;
using local = weft::attention<float, weft::window>;

template <class M>
typename M::state_type fresh(const M& m, const sizes& s) {
  return m.state({.batch = s.batch, .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.time});
}

}  // namespace

TEST_CASE("a NaN or an infinity in one token reaches only the rows that read it") {
  const sizes s{1, 300, 2, 2, 16, 16};
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const index piece : {index(300), index(7)})  // packed keys, keys in place
    for (const index window : {index(0), index(20)})
      for (const index token : {index(0), index(131), index(140), index(299)})
        for (const bool in_key : {true, false})
          for (const float poison : bad) {
            CAPTURE(piece, window, token, in_key, poison);
            const local m{.select = {.window = window}};
            call<float> clean(s), dirty(s);
            dirty.q = clean.q;
            (in_key ? dirty.k : dirty.v)(0, token, 1, 3) = poison;
            weft::cpu cpu;
            auto a = fresh(m, s), b = fresh(m, s);
            for (index t = 0; t < s.time; t += piece) {
              const index n = std::min(piece, s.time - t);
              weft::scan(cpu, m, clean.slice(m, t, n), a, clean.outputs(m, t, n));
              weft::scan(cpu, m, dirty.slice(m, t, n), b, dirty.outputs(m, t, n));
            }
            bool apart = true, reached = true;
            for (index t = 0; t < s.time; ++t) {
              const bool reads = t >= token && (window == 0 || t < token + window);
              for (index i = 0; i < 16; ++i) apart &= clean.o(0, t, 0, i) == dirty.o(0, t, 0, i) && (reads || clean.o(0, t, 1, i) == dirty.o(0, t, 1, i));
              if (reads && std::isnan(poison)) reached &= std::isnan(dirty.o(0, t, 1, 3));
            }
            CHECK(apart);
            CHECK(reached);
          }
}

TEST_CASE("an output may be the view of q or of v") {
  const sizes s{2, 90, 2, 2, 16, 16};
  for (const index window : {index(0), index(12)})
    for (const index piece : {index(90), index(5), index(1)}) {
      const local m{.select = {.window = window, .kept = 2}};
      call<float> apart(s), over_q(s), over_v(s);
      weft::cpu cpu;
      auto a = fresh(m, s), b = fresh(m, s), c = fresh(m, s);
      for (index t = 0; t < s.time; t += piece) {
        weft::scan(cpu, m, apart.slice(m, t, piece), a, apart.outputs(m, t, piece));
        weft::scan(cpu, m, over_q.slice(m, t, piece), b, {.o = over_q.q.view().slice(1, t, piece)});
        weft::scan(cpu, m, over_v.slice(m, t, piece), c, {.o = over_v.v.view().slice(1, t, piece)});
      }
      CHECK(same_bits(apart.o, over_q.q));
      CHECK(same_bits(apart.o, over_v.v));
      CHECK(same_bits(a.values, c.values));
    }
}

TEST_CASE("bits do not depend on the number of threads") {
  for (const sizes& s : {sizes{2, 257, 6, 2, 20, 12}, sizes{1, 6000, 2, 1, 8, 8}}) {
    const auto hold = [&](const auto& m) {
      call<float> serial(s);
      weft::cpu cpu;
      auto a = fresh(m, s);
      const index t = s.time - 5;
      weft::scan(cpu, m, serial.slice(m, 0, t, true), a, serial.outputs(m, 0, t));
      weft::scan(cpu, m, serial.slice(m, t, 5, true), a, serial.outputs(m, t, 5));
      for (const int workers : {2, 3, 7}) {
        thread_team team{workers};
        weft::cpu many(team);
        call<float> parallel(s);
        auto b = fresh(m, s);
        weft::scan(many, m, parallel.slice(m, 0, t, true), b, parallel.outputs(m, 0, t));
        weft::scan(many, m, parallel.slice(m, t, 5, true), b, parallel.outputs(m, t, 5));
        CHECK(same_bits(serial.o, parallel.o));
        CHECK(same_bits(serial.lse, parallel.lse));
        CHECK(same_bits(a.keys, b.keys));
      }
    };
    hold(full{});
    hold(local{.select = {.window = 50, .kept = 4}});
  }
}

TEST_CASE("fused and strided tensors are read where they lie") {
  const sizes s{1, 40, 4, 2, 8, 8};
  const full m;
  call<float> c(s);
  weft::array<float, 4> fused({1, 40, 8, 8});  // heads of q, then k, then v
  for (index t = 0; t < 40; ++t) {
    std::copy_n(&c.q(0, t, 0, 0), 32, &fused(0, t, 0, 0));
    std::copy_n(&c.k(0, t, 0, 0), 16, &fused(0, t, 4, 0));
    std::copy_n(&c.v(0, t, 0, 0), 16, &fused(0, t, 6, 0));
  }
  weft::cpu cpu;
  auto a = fresh(m, s), b = fresh(m, s);
  weft::scan(cpu, m, c.inputs(m), a, c.outputs(m));
  const auto q = fused.view().slice(2, 0, 4);
  weft::scan(cpu, m, {.q = q, .k = fused.view().slice(2, 4, 2), .v = fused.view().slice(2, 6, 2)}, b, {.o = q});
  bool same = true;
  for (index t = 0; t < 40; ++t) same &= std::memcmp(&c.o(0, t, 0, 0), &fused(0, t, 0, 0), 32 * sizeof(float)) == 0;
  CHECK(same);
}

TEST_CASE("nothing to do is done without reading a thing") {
  const full m;
  weft::cpu cpu;
  auto state = m.state({.batch = 2, .heads = 2, .key_dim = 8, .value_dim = 8});
  weft::scan(cpu, m, {}, state, {});
  weft::literal(m, {}, state, {});
  CHECK(state.length(1) == 0);
  call<float> none({0, 4, 2, 2, 8, 8});
  auto empty = m.state({.batch = 0, .heads = 2, .key_dim = 8, .value_dim = 8});
  weft::scan(cpu, m, none.inputs(m), empty, none.outputs(m));
}

TEST_CASE("bad input is named before anything is written") {
  const sizes s{2, 6, 4, 2, 8, 8};
  const full m;
  call<float> c(s);
  weft::cpu cpu;
  const auto good = c.inputs(m, true);
  const auto check = [&](weft::errc code, const std::string& word, auto&& change) {
    auto in = good;
    auto out = c.outputs(m);
    auto state = fresh(m, s);
    full mixer = m;
    std::vector<index> cu;
    change(in, out, state, mixer, cu);
    const auto before = state;
    for (const bool literal : {false, true}) {
      CAPTURE(word, literal);
      try {
        if (literal) weft::literal(mixer, in, state, out, cu);
        else weft::scan(cpu, mixer, in, state, out, cu);
        FAIL_CHECK("no error");
      } catch (const weft::error& e) {
        CHECK(e.code() == code);
        CHECK(std::string(e.what()).find(word) != std::string::npos);
      }
      CHECK(same_bits(before.keys, state.keys));
    }
  };
  using weft::errc;
  check(errc::missing, "q", [](auto& in, auto&...) { in.q = {}; });
  check(errc::missing, "k", [](auto& in, auto&...) { in.k = {}; });
  check(errc::missing, "v", [](auto& in, auto&...) { in.v = {}; });
  check(errc::missing, "o", [](auto&, auto& out, auto&...) { out.o = {}; });
  check(errc::missing, "state", [](auto&, auto&, auto& state, auto&...) { state = {}; });
  check(errc::shape, "k", [](auto& in, auto&...) { in.k.extent[3] = 7; });
  check(errc::shape, "v", [](auto& in, auto&...) { in.v.extent[1] = 5; });
  check(errc::shape, "q", [](auto& in, auto&...) { in.q.extent[3] = 4; });
  check(errc::shape, "q", [](auto& in, auto&...) { in.q.extent[3] = 8, in.q.stride[3] = 2; });
  check(errc::shape, "sink", [](auto& in, auto&...) { in.sink.extent[0] = 2; });
  check(errc::shape, "o", [](auto&, auto& out, auto&...) { out.o.extent[1] = 3; });
  check(errc::shape, "lse", [](auto&, auto& out, auto&...) { out.lse.extent[2] = 2; });
  check(errc::heads, "q", [](auto& in, auto&...) { in.q.extent[2] = 3; });
  check(errc::shape, "state.keys", [](auto&, auto&, auto& state, auto&...) { state = state.gather({0}); });
  check(errc::shape, "state.values", [](auto&, auto&, auto& state, auto&...) { state.values = weft::array<float, 4>({2, 2, 5, 8}); });
  check(errc::value, "state.length", [](auto&, auto&, auto& state, auto&...) { state.length(1) = -1; });
  check(errc::value, "state.length", [](auto&, auto&, auto& state, auto&...) { state.length(1) = 100; });
  check(errc::capacity, "state.keys", [](auto&, auto&, auto& state, auto&...) { state.length(1) = 1; });
  check(errc::sequence, "cu_seqlens", [](auto&, auto&, auto&, auto&, auto& cu) { cu = {0, 6}; });
  check(errc::value, "softcap", [](auto&, auto&, auto&, auto& mixer, auto&) { mixer.softcap = -1; });
  check(errc::value, "softcap", [](auto&, auto&, auto&, auto& mixer, auto&) { mixer.softcap = std::numeric_limits<double>::infinity(); });
  check(errc::value, "scale", [](auto&, auto&, auto&, auto& mixer, auto&) { mixer.scale = std::numeric_limits<double>::quiet_NaN(); });
  check(errc::overlap, "k", [&](auto& in, auto&...) { in.k = weft::view<const float, 4>(c.o.data(), in.k.extent); });
  check(errc::overlap, "q", [&](auto& in, auto&...) {
    in.q = weft::view<const float, 4>(c.o.data(), in.q.extent, {96, 16, 8, 1});  // not the view of o
  });
  check(errc::overlap, "state", [](auto&, auto& out, auto& state, auto&...) { out.lse = weft::view<float, 3>(state.keys.data(), out.lse.extent); });

  for (const weft::window bad : {weft::window{.window = -1}, weft::window{.window = 4, .kept = -2}}) {
    const local w{.select = bad};
    CHECK_THROWS_AS(w.state({.batch = 1, .heads = 1, .key_dim = 1, .value_dim = 1}), weft::error);
  }
  call<float> two(s);
  auto state = fresh(m, s);
  CHECK_THROWS_AS(weft::step(cpu, m, two.inputs(m), state, two.outputs(m)), weft::error);

  two.v(1, 2, 1, 3) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(weft::validate(m, two.inputs(m)), Catch::Matchers::StartsWith("weft: v:"));
  CHECK_NOTHROW(weft::validate(m, good));
}

}  // namespace attention_test
