// Gradients of attention: central differences in double, the adjoint identity, pieces, threads, bad input.
#include <functional>

#include <weft/backend/cpu/attention_vjp.hpp>

#include "common.hpp"

namespace attention_test {

namespace {

template <class A>
void randomise(A& a, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<std::remove_cvref_t<decltype(a.data()[0])>>(static_cast<float>(normal(random)));
}

template <class A, class B>
double dot(const A& a, const B& b) {
  double sum = 0;
  for (index i = 0; i < a.size(); ++i) sum += static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
  return sum;
}

struct setting {
  sizes of{};
  index cached = 0;           // tokens that the cache holds before the scan
  index capacity = 0;
  std::vector<index> cu{};
  bool sink = false, lse = false;
};

// One scan with everything that it reads, and cotangents of everything that it writes.
template <class T, class Selector>
struct problem {
  using mixer_type = weft::attention<T, Selector>;
  using R = weft::accumulate_t<T>;
  mixer_type mixer;
  setting s;
  call<T> c, earlier;
  weft::key_value_cache<T> before;
  weft::array<R, 4> d_o;
  weft::array<R, 3> d_lse;
  weft::cache_gradient<R> d_after;

  problem(const mixer_type& m, const setting& given, unsigned seed = 1)
      : mixer(m), s(given), c(given.of, seed), earlier({rows(), std::max<index>(1, given.cached), given.of.query_heads, given.of.heads, given.of.key_dim, given.of.value_dim}, seed + 7),
        before(m.state({rows(), given.of.heads, given.of.key_dim, given.of.value_dim, given.capacity})), d_o(c.o.extent()), d_lse(c.lse.extent()) {
    weft::view<const T, 4> k = earlier.k.view(), v = earlier.v.view();
    if (s.cached > 0) weft::append(mixer, k, v, before);
    randomise(d_o, seed + 1);
    randomise(d_lse, seed + 2);
    d_after = weft::cache_gradient<R>(before);
    randomise(d_after.keys, seed + 3);
    randomise(d_after.values, seed + 4);
  }
  index rows() const { return s.cu.empty() ? s.of.batch : static_cast<index>(s.cu.size()) - 1; }
  typename mixer_type::inputs inputs() const { return c.inputs(mixer, s.sink); }

  // The sum of everything that the scan wrote, weighted by the cotangents.
  double loss() {
    auto cache = before;
    weft::literal(mixer, inputs(), cache, c.outputs(mixer), s.cu);
    double sum = dot(c.o, d_o) + (s.lse ? dot(c.lse, d_lse) : 0);
    return sum + dot(cache.keys, d_after.keys) + dot(cache.values, d_after.values);
  }
};

template <class R>
struct gradients {
  weft::array<R, 4> q, k, v;
  weft::array<R, 1> sink;
  weft::cache_gradient<R> state;
};

template <class P>
gradients<typename P::R> gradients_of(P& p, weft::cpu& cpu) {
  gradients<typename P::R> d{.q = weft::array<typename P::R, 4>(p.c.q.extent()), .k = weft::array<typename P::R, 4>(p.c.k.extent()),
                             .v = weft::array<typename P::R, 4>(p.c.v.extent()), .sink = weft::array<typename P::R, 1>(p.c.sink.extent()), .state = p.d_after};
  weft::tape tape;
  auto cache = p.before;
  weft::scan(cpu, p.mixer, p.inputs(), cache, p.c.outputs(p.mixer), tape, p.s.cu);
  typename P::mixer_type::cotangents d_out{.o = p.d_o};
  if (p.s.lse) d_out.lse = p.d_lse.view();
  typename P::mixer_type::gradients d_in{.q = d.q, .k = d.k, .v = d.v};
  if (p.s.sink) d_in.sink = d.sink.view();
  weft::vjp(cpu, p.mixer, p.inputs(), tape, d_out, d.state, d_in);
  return d;
}

// A few elements of one tensor against central differences.
template <class P, class A, class D>
void differences(P& p, const char* name, A& of, const D& d, unsigned seed) {
  CAPTURE(name);
  REQUIRE(d.extent() == of.extent());
  std::mt19937 random(seed);
  for (int i = 0; i < 12 && of.size() > 0; ++i) {
    const auto at = static_cast<index>(random() % static_cast<unsigned>(of.size()));
    const double h = 1e-5, x = of.data()[at];
    of.data()[at] = x + h;
    const double up = p.loss();
    of.data()[at] = x - h;
    const double down = p.loss();
    of.data()[at] = x;
    CAPTURE(at);
    CHECK(d.data()[at] == Approx((up - down) / (2 * h)).epsilon(1e-6).margin(2e-8));
  }
}

template <class Selector>
void hold_differences(const weft::attention<double, Selector>& mixer, const setting& s, unsigned seed = 1) {
  CAPTURE(s.of.batch, s.of.time, s.of.query_heads, s.of.heads, s.of.key_dim, s.of.value_dim, s.cached, s.capacity, s.cu.size(), s.sink, s.lse, mixer.causal,
          mixer.softcap);
  problem<double, Selector> p(mixer, s, seed);
  weft::cpu cpu;
  const auto d = gradients_of(p, cpu);
  differences(p, "q", p.c.q, d.q, seed);
  differences(p, "k", p.c.k, d.k, seed);
  differences(p, "v", p.c.v, d.v, seed);
  if (s.sink) differences(p, "sink", p.c.sink, d.sink, seed);
  differences(p, "keys", p.before.keys, d.state.keys, seed);
  differences(p, "values", p.before.values, d.state.values, seed);
}

const setting settings[] = {
    {.of = {2, 9, 4, 2, 5, 3}, .capacity = 12},
    {.of = {1, 21, 3, 1, 8, 20}, .cached = 11, .capacity = 32, .sink = true, .lse = true},
    {.of = {1, 150, 2, 2, 17, 33}, .cached = 60, .capacity = 210, .lse = true},
    {.of = {2, 1, 6, 2, 4, 4}, .cached = 30, .capacity = 40, .sink = true},
    {.of = {1, 31, 2, 1, 3, 6}, .capacity = 20, .cu = {0, 4, 4, 20, 31}, .sink = true},
    {.of = {1, 0, 2, 1, 3, 6}, .cached = 5, .capacity = 9},
};

}  // namespace

TEST_CASE("gradients are central differences: dense") {
  for (const setting& s : settings)
    for (const bool causal : {true, false})
      for (const double softcap : {0.0, 2.0}) hold_differences(weft::attention<double>{.scale = 0.7, .softcap = softcap, .causal = causal}, s);
}

TEST_CASE("gradients are central differences: windows, kept tokens, rings that drop") {
  for (setting s : settings)
    for (const auto [window, kept] : {std::array<index, 2>{5, 0}, {1, 2}, {7, 3}, {64, 1}}) {
      CAPTURE(window, kept);
      hold_differences(weft::attention<double, weft::window>{.select = {window, kept}, .softcap = 3}, s);
      s.capacity = 0;  // a ring
      hold_differences(weft::attention<double, weft::window>{.select = {window, kept}}, s);
    }
  hold_differences(weft::attention<double, weft::window>{.select = {6}, .causal = false}, settings[0]);
}

TEST_CASE("the gradient along a random direction of everything is what the loss does") {
  setting s{.of = {1, 260, 6, 2, 40, 24}, .cached = 70, .capacity = 400, .sink = true, .lse = true};
  const auto hold = [](auto p) {
    weft::cpu cpu;
    const auto d = gradients_of(p, cpu);
    double expected = 0;
    const double h = 1e-6;
    std::vector<std::pair<double*, std::vector<double>>> moved;
    const auto add = [&](auto& of, const auto& gradient, unsigned seed) {
      auto direction = gradient;
      randomise(direction, seed);
      expected += dot(direction, gradient);
      moved.emplace_back(of.data(), std::vector<double>(direction.data(), direction.data() + direction.size()));
    };
    add(p.c.q, d.q, 20), add(p.c.k, d.k, 21), add(p.c.v, d.v, 22), add(p.c.sink, d.sink, 23);
    add(p.before.keys, d.state.keys, 24), add(p.before.values, d.state.values, 25);
    const auto move = [&](double by) {
      for (auto& [at, direction] : moved)
        for (std::size_t i = 0; i < direction.size(); ++i) at[i] += by * direction[i];
    };
    move(h);
    const double up = p.loss();
    move(-2 * h);
    CHECK((up - p.loss()) / (2 * h) == Approx(expected).epsilon(1e-7));
  };
  hold(problem(weft::attention<double>{.softcap = 4}, s));
  hold(problem(weft::attention<double, weft::window>{.select = {100, 3}}, s));
  s.capacity = 0;
  hold(problem(weft::attention<double, weft::window>{.select = {50, 9}}, s));
}

namespace {

// Gradients in T against those in double of the same numbers.
template <class T>
void hold_precision(const setting& s, double bound) {
  CAPTURE(s.of.time, s.of.key_dim, s.cached);
  problem narrow(weft::attention<T>{.softcap = 5}, s);
  problem wide(weft::attention<double>{.softcap = 5}, s);
  const auto copy = [](const auto& from, auto& to) {
    for (index i = 0; i < from.size(); ++i) to.data()[i] = static_cast<double>(from.data()[i]);
  };
  copy(narrow.c.q, wide.c.q), copy(narrow.c.k, wide.c.k), copy(narrow.c.v, wide.c.v), copy(narrow.c.sink, wide.c.sink);
  copy(narrow.before.keys, wide.before.keys), copy(narrow.before.values, wide.before.values);
  weft::cpu cpu;
  const auto d = gradients_of(narrow, cpu);
  const auto e = gradients_of(wide, cpu);
  CHECK(largest_difference(d.q, e.q) <= bound);
  CHECK(largest_difference(d.k, e.k) <= bound);
  CHECK(largest_difference(d.v, e.v) <= bound);
  CHECK(largest_difference(d.sink, e.sink) <= bound);
  CHECK(largest_difference(d.state.keys, e.state.keys) <= bound);
  CHECK(largest_difference(d.state.values, e.state.values) <= bound);
}

}  // namespace

TEST_CASE("gradients of float and 16-bit storage are those of the same numbers in double") {
  // 16-bit inputs are exact in float, sums are in float: the gradients of all three differ by float's rounding alone.
  for (const setting& s : {setting{.of = {1, 300, 4, 2, 64, 64}, .cached = 20, .capacity = 320, .sink = true, .lse = true},
                           setting{.of = {2, 40, 3, 1, 128, 100}, .capacity = 40, .sink = true}}) {
    hold_precision<float>(s, 2e-5);
    hold_precision<weft::bf16>(s, 2e-5);
    hold_precision<weft::fp16>(s, 2e-5);
  }
}

TEST_CASE("gradients do not depend on the number of workers") {
  const auto hold = [](auto p) {
    weft::cpu serial;
    const auto d = gradients_of(p, serial);
    for (const int count : {2, 3, 7}) {
      thread_team team{count};
      weft::cpu several(team);
      const auto e = gradients_of(p, several);
      CHECK(same_bits(d.q, e.q));
      CHECK(same_bits(d.k, e.k));
      CHECK(same_bits(d.v, e.v));
      CHECK(same_bits(d.sink, e.sink));
      CHECK(same_bits(d.state.keys, e.state.keys));
      CHECK(same_bits(d.state.values, e.state.values));
    }
  };
  hold(problem(weft::attention<float>{}, {.of = {1, 700, 4, 2, 32, 32}, .cached = 33, .capacity = 733, .sink = true}));
  hold(problem(weft::attention<float, weft::window>{.select = {40, 3}}, {.of = {3, 400, 2, 2, 64, 16}, .cached = 90, .sink = true}));
  hold(problem(weft::attention<weft::bf16>{}, {.of = {1, 500, 2, 1, 20, 36}, .capacity = 300, .cu = {0, 1, 300, 300, 500}, .sink = true}));
}

TEST_CASE("a sequence in pieces goes back through its tapes with one gradient of the state") {
  const auto hold = [](auto p, std::vector<index> cuts) {
    using M = typename decltype(p)::mixer_type;
    weft::cpu cpu;
    const auto whole = gradients_of(p, cpu);
    gradients<double> d{.q = weft::array<double, 4>(p.c.q.extent()), .k = weft::array<double, 4>(p.c.k.extent()), .v = weft::array<double, 4>(p.c.v.extent()),
                        .sink = {}, .state = p.d_after};
    std::vector<weft::tape> tapes(cuts.size() - 1);
    auto cache = p.before;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
      const index first = cuts[i], count = cuts[i + 1] - first;
      weft::scan(cpu, p.mixer, p.c.slice(p.mixer, first, count), cache, p.c.outputs(p.mixer, first, count), tapes[i]);
    }
    for (std::size_t i = cuts.size() - 1; i-- > 0;) {
      const index first = cuts[i], count = cuts[i + 1] - first;
      const typename M::gradients d_in{.q = d.q.view().slice(1, first, count), .k = d.k.view().slice(1, first, count), .v = d.v.view().slice(1, first, count)};
      weft::vjp(cpu, p.mixer, p.c.slice(p.mixer, first, count), tapes[i], {.o = p.d_o.view().slice(1, first, count)}, d.state, d_in);
    }
    CHECK(largest_difference(d.q, whole.q) <= 1e-13);
    CHECK(largest_difference(d.k, whole.k) <= 1e-13);
    CHECK(largest_difference(d.v, whole.v) <= 1e-13);
    CHECK(largest_difference(d.state.keys, whole.state.keys) <= 1e-13);
    CHECK(largest_difference(d.state.values, whole.state.values) <= 1e-13);
  };
  const sizes of{2, 90, 4, 2, 12, 20};
  for (const std::vector<index>& cuts : {std::vector<index>{0, 1, 40, 40, 90}, {0, 7, 14, 21, 83, 90}}) {
    hold(problem(weft::attention<double>{.softcap = 3}, {.of = of, .cached = 20, .capacity = 110}), cuts);
    hold(problem(weft::attention<double, weft::window>{.select = {16, 2}}, {.of = of, .cached = 20}), cuts);
    hold(problem(weft::attention<double, weft::window>{.select = {9, 0}}, {.of = of, .cached = 3}), cuts);
  }
}

TEST_CASE("gradients are written where they are wanted, through any strides") {
  const sizes of{2, 50, 4, 2, 24, 40};
  problem p(weft::attention<float>{}, {.of = of, .cached = 10, .capacity = 60});
  using M = decltype(p)::mixer_type;
  weft::cpu cpu;
  const auto d = gradients_of(p, cpu);
  weft::tape tape;
  auto cache = p.before;
  weft::scan(cpu, p.mixer, p.inputs(), cache, p.c.outputs(p.mixer), tape);

  // One fused buffer of q, k and v.
  const index row = of.query_heads * of.key_dim + of.heads * (of.key_dim + of.value_dim);
  const auto parts = [&](weft::array<float, 3>& fused) {
    float* const at = fused.data();
    const index time = of.time * row;
    return M::gradients{.q = weft::view<float, 4>(at, p.c.q.extent(), {time, row, of.key_dim, 1}),
                        .k = weft::view<float, 4>(at + of.query_heads * of.key_dim, p.c.k.extent(), {time, row, of.key_dim, 1}),
                        .v = weft::view<float, 4>(at + (of.query_heads + of.heads) * of.key_dim, p.c.v.extent(), {time, row, of.value_dim, 1})};
  };
  weft::array<float, 3> fused({of.batch, of.time, row});
  auto state = p.d_after;
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, state, parts(fused));
  for (index b = 0; b < of.batch; ++b)
    for (index t = 0; t < of.time; ++t) {
      const float* const at = fused.data() + (b * of.time + t) * row;
      CHECK(std::memcmp(at, &d.q(b, t, 0, 0), sizeof(float) * static_cast<std::size_t>(of.query_heads * of.key_dim)) == 0);
      CHECK(std::memcmp(at + of.query_heads * of.key_dim, &d.k(b, t, 0, 0), sizeof(float) * static_cast<std::size_t>(of.heads * of.key_dim)) == 0);
      CHECK(std::memcmp(at + (of.query_heads + of.heads) * of.key_dim, &d.v(b, t, 0, 0), sizeof(float) * static_cast<std::size_t>(of.heads * of.value_dim)) == 0);
    }

  // The state's alone, and each of the others alone; an empty state gradient is one of zero.
  state = p.d_after;
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, state);
  CHECK(same_bits(state.keys, d.state.keys));
  CHECK(same_bits(state.values, d.state.values));
  weft::cache_gradient<float> none, zero(p.before);
  weft::array<float, 4> q(p.c.q.extent()), k(p.c.k.extent()), v(p.c.v.extent()), all_k(p.c.k.extent());
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, none, {.q = q});
  CHECK(same_bits(q, d.q));
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, none, {.k = k});
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, none, {.v = v});
  weft::array<float, 4> all_v(p.c.v.extent());
  weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, zero, {.k = all_k, .v = all_v});
  CHECK(same_bits(k, all_k));
  CHECK(same_bits(v, all_v));
  CHECK(none.keys.null());
}

TEST_CASE("what is no number reaches the gradients of what reads it alone") {
  const float bad = std::numeric_limits<float>::quiet_NaN();
  const index T = 140, at = 61;
  const auto run = [&](auto spoil) {
    problem p(weft::attention<float, weft::window>{.select = {30, 2}}, {.of = {1, T, 2, 2, 16, 16}});
    spoil(p);
    weft::cpu cpu;
    return gradients_of(p, cpu);
  };
  const auto clean = [](const weft::array<float, 4>& a, index t) {
    for (index i = 0; i < a.extent(3); ++i)
      if (!std::isfinite(a(0, t, 0, i))) return false;
    return true;
  };
  for (const int which : {0, 1}) {  // of the query at `at`: its q, or what comes back to it
    CAPTURE(which);
    const auto d = run([&](auto& p) { (which ? p.d_o : p.c.q)(0, at, 0, 3) = bad; });
    for (index t = 0; t < T; ++t) {
      CAPTURE(t);
      const bool read = t < 2 || (t > at - 30 && t <= at);
      CHECK(clean(d.q, t) == (t != at));
      CHECK(clean(d.k, t) == !read);
      CHECK(clean(d.v, t) == !read);
    }
  }
  const auto d = run([&](auto& p) { p.c.k(0, at, 0, 5) = std::numeric_limits<float>::infinity(); });
  for (index t = 0; t < T; ++t) {
    CAPTURE(t);
    CHECK(clean(d.q, t) == (t < at || t >= at + 30));
  }
}

TEST_CASE("a tape serves one scan after another, and a rehearsal of both verbs writes nothing") {
  weft::cpu cpu, fresh;
  weft::tape tape;
  for (const sizes& of : {sizes{2, 30, 4, 2, 16, 8}, sizes{1, 90, 2, 2, 5, 33}, sizes{2, 30, 4, 2, 16, 8}}) {
    problem p(weft::attention<float>{}, {.of = of, .cached = 7, .capacity = 100});
    using M = decltype(p)::mixer_type;
    const auto expected = gradients_of(p, fresh);
    weft::array<float, 4> q(p.c.q.extent()), k(p.c.k.extent()), v(p.c.v.extent()), o(p.c.o.extent());
    auto state = p.d_after;
    auto cache = p.before;
    const auto both = [&] {
      weft::scan(cpu, p.mixer, p.inputs(), cache, {.o = o}, tape);
      weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, state, M::gradients{.q = q, .k = k, .v = v});
    };
    {
      const weft::rehearsal nothing(cpu);
      both();
    }
    for (const auto* a : {&q, &k, &v, &o})
      for (index i = 0; i < a->size(); ++i) REQUIRE(a->data()[i] == 0);
    REQUIRE(same_bits(cache.length, p.before.length));
    REQUIRE(same_bits(state.keys, p.d_after.keys));
    auto unused = state;
    CHECK_THROWS_AS(weft::vjp(cpu, p.mixer, p.inputs(), tape, {.o = p.d_o}, unused, M::gradients{.q = q}), weft::error);
    both();
    CHECK(same_bits(q, expected.q));
    CHECK(same_bits(k, expected.k));
    CHECK(same_bits(v, expected.v));
    CHECK(same_bits(state.values, expected.state.values));
  }
}

TEST_CASE("a vjp that cannot be is refused before anything is written") {
  const sizes of{1, 12, 4, 2, 6, 10};
  problem p(weft::attention<float>{}, {.of = of, .cached = 3, .capacity = 20, .sink = true});
  using M = decltype(p)::mixer_type;
  weft::cpu cpu;
  weft::tape tape, empty;
  auto cache = p.before;
  weft::scan(cpu, p.mixer, p.inputs(), cache, p.c.outputs(p.mixer), tape);
  weft::array<float, 4> q(p.c.q.extent()), k(p.c.k.extent()), v(p.c.v.extent()), wrong({1, 12, 4, 7});
  const M::gradients all{.q = q, .k = k, .v = v};
  const auto refused = [&](std::string_view words, const M& mixer, const M::inputs& in, const weft::tape& t, const M::cotangents& d_out,
                           weft::cache_gradient<float> d_state, const M::gradients& d_in) {
    CAPTURE(words);
    try {
      weft::vjp(cpu, mixer, in, t, d_out, d_state, d_in);
      FAIL_CHECK("not refused");
    } catch (const weft::error& e) {
      CHECK_THAT(e.what(), Catch::Matchers::Contains(std::string(words)));
    }
    for (index i = 0; i < q.size(); ++i) CHECK(q.data()[i] == 0);
    CHECK(same_bits(d_state.keys, p.d_after.keys));
  };
  const auto with = [&](auto change) {
    auto in = p.inputs();
    change(in);
    return in;
  };
  const M::cotangents d_out{.o = p.d_o};
  refused("tape: expected one filled by a scan of this mixer, got an empty one", p.mixer, p.inputs(), empty, d_out, p.d_after, all);
  weft::tape other;
  other.record = 3;
  refused("tape: expected one filled by a scan of this mixer, got another", p.mixer, p.inputs(), other, d_out, p.d_after, all);
  refused("tape: expected one of a scan over [1, 11, 2, 4, 6, 10]", p.mixer, p.c.slice(p.mixer, 0, 11, true), tape, d_out, p.d_after, all);
  refused("tape: expected one of a scan without sink", p.mixer, with([](auto& in) { in.sink = {}; }), tape, d_out, p.d_after, all);
  refused("tape: expected one of a scan with scale 2", {.scale = 2}, p.inputs(), tape, d_out, p.d_after, all);
  refused("tape: expected one of a scan with softcap 9", {.softcap = 9}, p.inputs(), tape, d_out, p.d_after, all);
  refused("tape: expected one of a scan without causality", {.causal = false}, p.inputs(), tape, d_out, p.d_after, all);
  refused("d_o: expected [1, 12, 4, 10], got [1, 12, 4, 7]", p.mixer, p.inputs(), tape, {.o = wrong}, p.d_after, all);
  refused("d_q: expected [1, 12, 4, 6], got [1, 12, 4, 7]", p.mixer, p.inputs(), tape, d_out, p.d_after, {.q = wrong});
  refused("d_q: expected memory apart from q", p.mixer, p.inputs(), tape, d_out, p.d_after, {.q = p.c.q});
  refused("d_v: expected memory apart from the other gradients", p.mixer, p.inputs(), tape, d_out, p.d_after,
          {.k = weft::view<float, 4>(v.data(), k.extent()), .v = v});
  weft::array<float, 1> sink({3});
  refused("d_sink: expected [4], got [3]", p.mixer, p.inputs(), tape, d_out, p.d_after, {.sink = sink.view()});
  weft::cache_gradient<float> small(p.before.gather({0}));
  small.keys = weft::array<float, 4>({1, 2, 19, 6});
  try {
    weft::vjp(cpu, p.mixer, p.inputs(), tape, d_out, small, all);
    FAIL_CHECK("not refused");
  } catch (const weft::error& e) {
    CHECK_THAT(e.what(), Catch::Matchers::Contains("d_state.keys: expected [1, 2, 20, 6], got [1, 2, 19, 6]"));
  }
  weft::cache_gradient<float> shared = p.d_after;
  const weft::view<const float, 4> inside(shared.keys.data(), p.c.k.extent());
  CHECK_THROWS_WITH(weft::vjp(cpu, p.mixer, with([&](auto& in) { in.k = inside; }), tape, d_out, shared, all),
                    Catch::Matchers::Contains("k: expected memory apart from the gradients"));
}

}  // namespace attention_test
