// Spans compose: summaries of parts, put together, move a state as the whole scan does.
#include <cstring>
#include <random>
#include <thread>

#include <weft/recurrence/segment.hpp>
#include <weft/weft.hpp>

#include "../failing_allocator.hpp"
#include "catch.hpp"
#include "difference.hpp"

namespace {

using weft::index;

template <class M>
struct call {
  static constexpr index T = 45, H = 2, K = 9, V = 7;
  weft::array<float, 4> key{{2, T, H, K}}, other = key, query = key, rate = key, a = key, b = key, value{{2, T, H, V}};
  weft::array<float, 3> g{{2, T, H}}, beta = g;
  weft::array<float, 1> head{{H}};
  weft::array<float, 2> bonus{{H, K}};
  M mixer;
  typename M::inputs in;
  typename M::state_type start = mixer.state({.batch = 2, .heads = H, .key_dim = K, .value_dim = V});

  call() {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> unit;
    for (auto* x : {&key, &other, &query}) for (index i = 0; i < x->size(); ++i) x->data()[i] = normal(random) / 3;
    for (index i = 0; i < value.size(); ++i) value.data()[i] = normal(random);
    for (index i = 0; i < rate.size(); ++i) rate.data()[i] = -unit(random) / 10, a.data()[i] = -key.data()[i], b.data()[i] = key.data()[i] * unit(random);
    for (index i = 0; i < g.size(); ++i) g.data()[i] = -unit(random) / 5, beta.data()[i] = unit(random);
    for (index i = 0; i < H; ++i) head.data()[i] = -0.1f * static_cast<float>(i);
    weft::for_each_part(start, [&](const auto& p) { for (index i = 0; i < p.data.size(); ++i) p.data.data()[i] = unit(random); });
  }
  typename M::inputs span(index first, index count) const {
    auto part = in;
    weft::for_each_member(part, [&](auto& v, auto) {
      if constexpr (std::remove_cvref_t<decltype(v)>::role.time) v = v.slice(1, first, count);
    });
    return part;
  }
};

// The first half of the calls on a thread of its own, the others here.
struct two_threads {
  int workers() const { return 2; }
  void parallel_for(index n, weft::task_ref f) {
    std::thread other([&] { for (index i = 0; i < n / 2; ++i) f(i, 1); });
    for (index i = n / 2; i < n; ++i) f(i, 0);
    other.join();
  }
};

template <class S>
double difference(const S& x, const S& y) {
  double worst = 0, top = 0;
  weft::for_each_part(x, y, [&](const auto& p, const auto& r) {
    worst = std::max(worst, test::largest_difference(p.data, r.data));
    top = std::max(top, test::largest(r.data));
  });
  CHECK(top > 0);
  return worst / top;
}

template <class M>
void check(call<M>& c) {
  weft::cpu cpu;
  weft::array<float, 4> o({2, c.T, c.H, c.V});
  auto scanned = c.start;
  weft::scan(cpu, c.mixer, c.in, scanned, {.o = o});

  const auto whole = weft::summarise(cpu, c.mixer, c.in, c.start);
  const auto first = weft::summarise(cpu, c.mixer, c.span(0, 20), c.start), middle = weft::summarise(cpu, c.mixer, c.span(20, 1), c.start);
  const auto last = weft::summarise(cpu, c.mixer, c.span(21, 24), c.start), nothing = weft::summarise(cpu, c.mixer, c.span(7, 0), c.start);
  // R1: each way is within 16 units of rounding of the truth.
  const double bound = 32 * 0x1p-23;
  CHECK(difference(weft::apply(whole, c.start), scanned) <= bound);
  CHECK(difference(weft::apply(last, weft::apply(middle, weft::apply(first, c.start))), scanned) <= bound);
  const auto left = weft::compose(weft::compose(first, middle), last), right = weft::compose(first, weft::compose(middle, last));
  CHECK(difference(weft::apply(left, c.start), scanned) <= bound);
  CHECK(difference(weft::apply(right, c.start), scanned) <= bound);
  CHECK(difference(weft::apply(weft::compose(nothing, whole), c.start), weft::apply(whole, c.start)) <= bound);

  // A scan in segments is the scan, and the same bits for any number of workers.
  two_threads pool;
  weft::cpu pair{pool};
  for (const index pieces : {1, 3, 60}) {
    auto alone = c.start, together = c.start;
    weft::array<float, 4> of_alone({2, c.T, c.H, c.V}), of_pair = of_alone;
    weft::scan_in_segments(cpu, c.mixer, c.in, alone, {.o = of_alone}, pieces);
    weft::scan_in_segments(pair, c.mixer, c.in, together, {.o = of_pair}, pieces);
    CHECK(difference(alone, scanned) <= bound);
    CHECK(test::largest_difference(of_alone, o) <= bound * test::largest(o));
    CHECK(std::memcmp(of_alone.data(), of_pair.data(), o.bytes()) == 0);
    CHECK(difference(alone, together) == 0);
  }
  CHECK_THROWS_AS(weft::scan_in_segments(cpu, c.mixer, c.in, scanned, {.o = o}, 0), weft::error);
}

}  // namespace

TEST_CASE("spans compose without an erase: the transition is a decay a channel") {
  call<weft::gla<float>> gla;
  gla.in = {.q = gla.query, .k = gla.key, .v = gla.value, .g = gla.rate};
  check(gla);
  STATIC_REQUIRE(weft::segment<weft::gla<float>>::diagonal);
  call<weft::linear_attention_normalised<float>> linear;
  linear.in = {.q = linear.query, .k = linear.key, .v = linear.value};
  check(linear);
  call<weft::rwkv6<float>> rwkv6;
  rwkv6.in = {.q = rwkv6.query, .k = rwkv6.key, .v = rwkv6.value, .g = rwkv6.rate, .u = rwkv6.bonus};
  check(rwkv6);
}

TEST_CASE("spans compose with a delta rule") {
  call<weft::gated_delta_rule<float>> gdn;
  gdn.in = {.q = gdn.query, .k = gdn.key, .v = gdn.value, .g = gdn.g, .beta = gdn.beta};
  check(gdn);
  call<weft::comba<float>> comba;
  comba.in = {.q = comba.query, .k = comba.key, .p = comba.key, .v = comba.value, .g = comba.g, .beta = comba.beta};
  check(comba);
}

TEST_CASE("spans compose with two writers") {
  call<weft::dplr<float>> dplr;
  dplr.in = {.q = dplr.query, .k = dplr.other, .v = dplr.value, .g = dplr.rate, .a = dplr.a, .b = dplr.b};
  check(dplr);
}

TEST_CASE("a summary of packed sequences has a row for each") {
  call<weft::gated_delta_rule<float>> c;
  const weft::view<const float, 4> q = c.query, k = c.key, v = c.value;
  const weft::view<const float, 3> g = c.g, beta = c.beta;
  c.in = {.q = q.slice(0, 0, 1), .k = k.slice(0, 0, 1), .v = v.slice(0, 0, 1), .g = g.slice(0, 0, 1), .beta = beta.slice(0, 0, 1)};
  const weft::index cu[] = {0, 30, 45};
  weft::cpu cpu;
  auto scanned = c.start;
  weft::array<float, 4> o({1, c.T, c.H, c.V});
  weft::scan(cpu, c.mixer, c.in, scanned, {.o = o}, cu);
  CHECK(difference(weft::apply(weft::summarise(cpu, c.mixer, c.in, c.start, cu), c.start), scanned) <= 32 * 0x1p-23);
}

TEST_CASE("a segment of another shape is refused") {
  call<weft::gated_delta_rule<float>> c;
  c.in = {.q = c.query, .k = c.key, .v = c.value, .g = c.g, .beta = c.beta};
  weft::cpu cpu;
  const auto s = weft::summarise(cpu, c.mixer, c.in, c.start);
  CHECK_THROWS_AS(weft::apply(s, c.mixer.state({.batch = 1, .heads = c.H, .key_dim = c.K, .value_dim = c.V})), weft::error);
}

TEST_CASE("a scan in segments that runs out of memory has written nothing") {
  call<weft::gated_delta_rule<float>> c;
  c.in = {.q = c.query, .k = c.key, .v = c.value, .g = c.g, .beta = c.beta};
  weft::array<float, 4> o({2, c.T, c.H, c.V}), kept = o;
  for (weft::index i = 0; i < o.size(); ++i) o.data()[i] = kept.data()[i] = 7;
  const auto state = c.start;
  bool done = false;
  for (long n = 0; !done; ++n) {
    REQUIRE(n < 1000);
    {
      weft::cpu cpu;
      watch w(n);
      try {
        weft::scan_in_segments(cpu, c.mixer, c.in, c.start, {.o = o}, 3);
        done = true;
      } catch (const std::bad_alloc&) {
      }
    }
    if (done) CHECK(n > 10);
    else CHECK((std::memcmp(o.data(), kept.data(), o.bytes()) == 0 && difference(c.start, state) == 0));
  }
  CHECK(std::memcmp(o.data(), kept.data(), o.bytes()) != 0);
}
