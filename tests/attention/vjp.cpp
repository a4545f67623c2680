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

template <class A>
double dot(const A& a, const A& b) {
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
    double sum = dot_as(c.o, d_o) + (s.lse ? dot_as(c.lse, d_lse) : 0);
    return sum + dot_as(cache.keys, d_after.keys) + dot_as(cache.values, d_after.values);
  }
  template <class A, class B>
  static double dot_as(const A& a, const B& b) {
    double sum = 0;
    for (index i = 0; i < a.size(); ++i) sum += static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
    return sum;
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

}  // namespace attention_test
