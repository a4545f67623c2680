// What one paper says of another: the same numbers through two policies, on inputs that make them one system.
#include <string>

#include "each.hpp"

namespace contract {
namespace {

const subject& named(const std::string& name) {
  for (const auto& m : all_subjects())
    if (m->name == name) return *m;
  throw std::logic_error("no mixer called " + name);
}

using numbers = std::vector<double>;

// Every number `times` over: a gate of the head for each of its channels.
numbers spread(const numbers& v, index times) {
  numbers out;
  for (const double x : v) out.insert(out.end(), static_cast<std::size_t>(times), x);
  return out;
}

// A problem of `m` whose fields are given by name; what is not given stays away, which must be legal.
problem with(const subject& m, const sizes& s, const std::vector<std::pair<std::string, numbers>>& values) {
  problem p{s, {}};
  dice unused(0);
  m.size(p.s, unused);
  for (std::size_t i = 0; i < m.inputs(); ++i) {
    field f{m.info(i), p.s.extents(m.info(i)), {}, true};
    for (const auto& [name, v] : values)
      if (name == f.info.name) f.values = v, f.null = false;
    REQUIRE((f.null ? f.info.optional : true));
    p.fields.push_back(std::move(f));
  }
  return p;
}

// One call in the terms of all systems. Keys per value head, so that gates a head can be multiplied into them.
struct terms {
  sizes s;
  numbers q, k, v, g, gk, beta, zero, one, zero_k, one_k, scaled_q;
  std::unique_ptr<any_state> start;

  terms(dice& d) {
    s = random_sizes(d, false);
    s.group = 1;
    const subject& m = named("kda");
    problem p = random_problem(m, s, {keys::normalised, d.any({gates::mild, gates::strong, gates::single}), betas::random}, d);
    s = p.s;
    q = p["q"], k = p["k"], v = p["v"], gk = p["g"], beta = p["beta"];
    fill_decays(g = numbers(beta.size()), gates::mild, d);
    for (double& x : g) x = rounded(element::f32, x);
    zero = numbers(beta.size(), 0.0), one = numbers(beta.size(), 1.0);
    zero_k = spread(zero, s.key_dim), one_k = spread(one, s.key_dim);
    start = random_state(m, p, start::random, d);
  }
  // k by a number a head and token, as floats give it.
  numbers times(const numbers& x, const numbers& gate, index width) const {
    numbers out = spread(gate, width);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = rounded(element::f32, out[i] * x[i]);
    return out;
  }
  outcome of(const char* mixer, const std::vector<std::pair<std::string, numbers>>& values) const {
    const subject& m = named(mixer);
    return run(m, with(m, s, values), *start);
  }
};

void equal(const outcome& a, const outcome& b) {
  CHECK(same(a.o, b.o, false));
  CHECK(same(a.state->values(), b.state->values(), false));
}
// Both are within R1 of the truth. `factor` is of scales that differ; `start` of what an erase cancels.
void close(const outcome& a, const outcome& b, const terms& t, double factor = 1) {
  numbers scaled = b.o;
  for (double& x : scaled) x *= factor;
  const double top = std::max({largest(a.o), largest(a.state->values()), largest(t.start->values())});
  CHECK(largest_difference(a.o, scaled) <= 32 * 0x1p-23 * top);
  CHECK(largest_difference(a.state->values(), b.state->values()) <= 32 * 0x1p-23 * top);
}

template <class F>
void each(long count, F&& f) {
  for (long seed = 0; seed < count; ++seed) {
    CAPTURE(seed);
    dice d(static_cast<unsigned>(seed) + 77);
    const terms t(d);
    CAPTURE(t.s.batch, t.s.time, t.s.heads, t.s.key_dim, t.s.value_dim);
    f(t, d);
  }
}

}  // namespace
}  // namespace contract

using namespace contract;

TEST_CASE("delta rules reduce to each other") {
  each(40, [](const terms& t, dice&) {
    const outcome kda = t.of("kda", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.gk}, {"beta", t.beta}});
    equal(t.of("gdn2", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.gk}, {"b", spread(t.beta, t.s.key_dim)}, {"w", spread(t.beta, t.s.value_dim)}}), kda);
    const outcome gdn = t.of("gated_delta", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.g}, {"beta", t.beta}});
    close(t.of("kda", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", spread(t.g, t.s.key_dim)}, {"beta", t.beta}}), gdn, t);
    close(t.of("gated_delta_product of 1", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.g}, {"beta", t.beta}}), gdn, t);
    const outcome delta = t.of("delta", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"beta", t.beta}});
    close(t.of("gated_delta", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.zero}, {"beta", t.beta}}), delta, t);
    numbers minus_k = t.k, forgetting = t.g;
    for (double& x : minus_k) x = -x;
    for (double& x : forgetting) x = std::exp(x);
    close(t.of("dplr", {{"q", t.q}, {"k", t.k}, {"v", t.times(t.v, t.beta, t.s.value_dim)}, {"g", t.zero_k}, {"a", minus_k}, {"b", t.times(t.k, t.beta, t.s.key_dim)}}), delta, t);
    close(t.of("comba", {{"q", t.q}, {"k", t.k}, {"p", t.times(t.k, forgetting, t.s.key_dim)}, {"v", t.v}, {"g", t.g}, {"beta", t.beta}}), gdn, t);
  });
}

TEST_CASE("linear recurrences reduce to each other") {
  each(40, [](const terms& t, dice& d) {
    const outcome simple = t.of("simple_gla", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.g}});
    close(t.of("gla", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", spread(t.g, t.s.key_dim)}}), simple, t);
    numbers head(static_cast<std::size_t>(t.s.heads)), constant;
    for (double& x : head) x = rounded(element::f32, d.uniform(-1, 0));
    for (std::size_t i = 0; i < t.g.size(); ++i) constant.push_back(head[i % head.size()]);
    const outcome retention = t.of("retention", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", head}});
    close(t.of("simple_gla", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", constant}}), retention, t);
    const outcome linear = t.of("linear_attention", {{"q", t.q}, {"k", t.k}, {"v", t.v}});
    close(t.of("gla", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.zero_k}}), linear, t);
    const double scale = std::sqrt(static_cast<double>(std::max<weft::index>(1, t.s.key_dim)));
    const numbers u(static_cast<std::size_t>(t.s.heads * t.s.key_dim), 1.0);
    close(t.of("rwkv6", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.zero_k}, {"u", u}}), linear, t, scale);
    // Mamba-2 with steps of 1 is simple GLA at g = A.
    close(t.of("mamba2 raw steps", {{"x", t.v}, {"dt", t.one}, {"A", head}, {"B", t.k}, {"C", t.q}}), retention, t, scale);
    // An erase of nothing.
    close(t.of("gdn2", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.gk}, {"b", t.zero_k}, {"w", spread(t.one, t.s.value_dim)}}),
          t.of("gla", {{"q", t.q}, {"k", t.k}, {"v", t.v}, {"g", t.gk}}), t);
  });
}

TEST_CASE("a window as long as the sequence is none") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    dice d(seed);
    sizes s = random_sizes(d);
    s.time = std::min<weft::index>(s.time, 70), s.cu.clear();
    const subject &dense = named("attention dense"), &window = named("attention window wide");
    const problem p = random_problem(dense, s, {}, d);
    problem q = p;
    window.size(q.s, d);
    const outcome a = run(dense, p, *dense.state(p.s)), b = run(window, q, *window.state(q.s));
    CHECK(largest_difference(a.o, b.o) <= 32 * 0x1p-23 * largest(a.o));
  }
}
