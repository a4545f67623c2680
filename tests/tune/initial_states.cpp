#include "../catch.hpp"

#include <weft/backend/cpu/attention.hpp>
#include <weft/backend/cpu/attention_vjp.hpp>
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/backend/cpu/recurrence_vjp.hpp>
#include <weft/recurrence/all.hpp>
#include <weft/tune/initial_states.hpp>

#include "../layer/random.hpp"

namespace {

using namespace weft;
using weft::index;

constexpr index H = 2, K = 3, V = 4;

// Two sequences of different lengths, packed; the loss is a fixed linear form of the outputs and of their squares.
template <class M>
struct problem {
  M mixer;
  typename M::inputs in;
  array<double, 4> d_o;
  std::vector<index> cu;

  template <class S>
  double loss(S state) const {
    cpu executor;
    array<double, 4> o(d_o.extent());
    scan(executor, mixer, in, state, {.o = o}, cu);
    double sum = 0;
    for (index i = 0; i < o.size(); ++i) sum += d_o.data()[i] * o.data()[i] * (1 + 0.5 * o.data()[i]);
    return sum;
  }
  template <class S>
  auto gradient(S state, typename M::state_gradient d_state) const {
    cpu executor;
    array<double, 4> o(d_o.extent()), d(d_o.extent());
    tape tape;
    scan(executor, mixer, in, state, {.o = o}, tape, cu);
    for (index i = 0; i < o.size(); ++i) d.data()[i] = d_o.data()[i] * (1 + o.data()[i]);
    vjp(executor, mixer, in, tape, {.o = d}, d_state);
    return d_state;
  }
};

struct sequences {
  array<double, 4> q{test::normal<double, 4>({1, 9, H, K}, 1)}, k{test::normal<double, 4>({1, 9, H, K}, 2)}, v{test::normal<double, 4>({1, 9, H, V}, 3)};
  array<double, 3> g{{1, 9, H}}, beta{{1, 9, H}};
  sequences() {
    for (index i = 0; i < g.size(); ++i) g.data()[i] = -0.1 * static_cast<double>(i % 4), beta.data()[i] = 0.2 + 0.1 * static_cast<double>(i % 5);
  }
};

recurrent_state<double> random_state(index batch, unsigned seed) { return {test::normal<double, 4>({batch, H, K, V}, seed), {}}; }

template <class S>
void check_differences(state_training<double, S>& training, const std::function<double()>& loss, double tolerance = 1e-6) {
  for (const auto& p : training.list())
    for (std::size_t i = 0; i < p.value.size(); ++i) {
      constexpr double h = 1e-5;
      const double x = p.value[i];
      p.value[i] = x + h;
      const double above = loss();
      p.value[i] = x - h;
      const double below = loss();
      p.value[i] = x;
      INFO(p.name << " " << i);
      CHECK(p.gradient[i] == Approx((above - below) / (2 * h)).margin(tolerance));
    }
}

TEST_CASE("the gradient of a shared initial state, under both scale policies, equals central differences") {
  const sequences s;
  const problem<gated_delta_rule<double>> p{{.qk_l2norm = true}, {.q = s.q, .k = s.k, .v = s.v, .g = s.g, .beta = s.beta}, test::normal<double, 4>({1, 9, H, V}, 5), {0, 2, 9}};
  const auto where = GENERATE(scale_at::deploy_only, scale_at::train_and_deploy);
  const bool normalise = GENERATE(false, true), zero = GENERATE(false, true);
  initial_states<recurrent_state<double>> set{{{3, zero ? p.mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V}) : random_state(1, 7)}}, {.factor = 0.6, .normalise = normalise, .where = where}};
  state_training<double, recurrent_state<double>> training(set);
  CHECK(training.tunes(3));
  CHECK_FALSE(training.tunes(2));
  CHECK(training.lowest() == 3);
  clear_gradients<double>(training.list());
  training.add(3, p.gradient(training.start(3, 2), {array<double, 4>({2, H, K, V}), {}}));
  if (zero && normalise && where == scale_at::train_and_deploy) return;  // the direction of zero has no derivative
  check_differences(training, [&] { return p.loss(training.start(3, 2)); });

  // What is deployed is what the policy trained where it scales at both.
  const auto live = deployed<double>(set, 3), seen = training.start(3, 1);
  if (where == scale_at::train_and_deploy) CHECK(test::largest_difference(live.matrix, seen.matrix) == 0.0);
  double norm = 0, raw = 0;
  for (index i = 0; i < live.matrix.size(); ++i) norm += live.matrix.data()[i] * live.matrix.data()[i], raw += set.raw.at(3).matrix.data()[i] * set.raw.at(3).matrix.data()[i];
  CHECK(std::sqrt(norm) == Approx(zero ? 0.0 : normalise ? 0.6 : 0.6 * std::sqrt(raw)));
}

TEST_CASE("virtual keys of attention are trained by the same routine, in a cache that has grown") {
  const sequences s;
  const attention<double, dense> mixer{.scale = 0.5};
  const problem<attention<double, dense>> p{mixer, {.q = s.q, .k = s.k, .v = s.v}, test::normal<double, 4>({1, 9, H, V}, 5), {0, 2, 9}};
  auto virtual_keys = mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V, .capacity = 2});
  virtual_keys.keys = test::normal<double, 4>({1, H, 2, K}, 8);
  virtual_keys.values = test::normal<double, 4>({1, H, 2, V}, 9);
  virtual_keys.length(0) = 2;
  initial_states<key_value_cache<double>> set{{{0, virtual_keys}}, {.factor = 1.0}};
  state_training<double, key_value_cache<double>> training(set);
  REQUIRE(training.list().size() == 2);
  const auto start = [&] {
    auto cache = training.start(0, 2);
    cache.grow(2 + 7);
    return cache;
  };
  training.add(0, p.gradient(start(), cache_gradient<double>(start())));
  check_differences(training, [&] { return p.loss(start()); });
}

TEST_CASE("several tuned states and none serve the rows of one batch, bit for bit as each alone") {
  cpu executor;
  const auto q = test::normal<float, 4>({3, 5, H, K}, 1), k = test::normal<float, 4>({3, 5, H, K}, 2), v = test::normal<float, 4>({3, 5, H, V}, 3);
  const delta_rule<float> mixer{.qk_l2norm = true};
  array<float, 3> beta({3, 5, H});
  for (index i = 0; i < beta.size(); ++i) beta.data()[i] = 0.5f;
  const auto state_of = [&](unsigned seed) { return recurrent_state<float>{test::normal<float, 4>({1, H, K, V}, seed), {}}; };
  using set = initial_states<recurrent_state<float>>;
  const set first{{{0, state_of(4)}, {2, state_of(5)}}, {.factor = 0.5}}, second{{{0, state_of(6)}}, {.factor = 2.0, .normalise = true}};
  const std::vector<const set*> rows{&second, nullptr, &first};
  auto batch = start<float, recurrent_state<float>>(0, rows);
  REQUIRE(batch.has_value());
  CHECK_FALSE(start<float, recurrent_state<float>>(1, rows).has_value());
  array<float, 4> o({3, 5, H, V});
  scan(executor, mixer, {.q = q, .k = k, .v = v, .beta = beta}, *batch, {.o = o});
  for (index b = 0; b < 3; ++b) {
    auto alone = b == 1 ? mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V}) : deployed<float>(*rows[static_cast<std::size_t>(b)], 0);
    array<float, 4> own({1, 5, H, V});
    // In two pieces: what a sequence starts from is its state at position 0 and nothing later.
    for (const auto& [from, n] : {std::pair<index, index>{0, 2}, {2, 3}}) {
      const auto piece = [&, from = from, n = n](const auto& a) { return a.view().slice(0, b, 1).slice(1, from, n); };
      scan(executor, mixer, {.q = piece(q), .k = piece(k), .v = piece(v), .beta = piece(beta)}, alone, {.o = own.view().slice(1, from, n)});
    }
    double difference = 0;
    for (index i = 0; i < own.size(); ++i) difference = std::max(difference, test::difference(own.data()[i], o.data()[b * own.size() + i]));
    CHECK(difference < 1e-6);
    CHECK(test::largest_difference(alone.matrix, batch->gather({b}).matrix) < 1e-6);
  }
  // A state of zeros is the base model, bit for bit.
  const set nothing{{{0, mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V})}}, {}};
  const std::vector<const set*> off{&nothing, nullptr, nullptr};
  auto zeros = start<float, recurrent_state<float>>(0, off), plain = std::optional(mixer.state({.batch = 3, .heads = H, .key_dim = K, .value_dim = V}));
  array<float, 4> with(o.extent()), without(o.extent());
  scan(executor, mixer, {.q = q, .k = k, .v = v, .beta = beta}, *zeros, {.o = with});
  scan(executor, mixer, {.q = q, .k = k, .v = v, .beta = beta}, *plain, {.o = without});
  CHECK(test::largest_difference(with, without) == 0.0);
}

TEST_CASE("a prefix that is folded into a state is that state") {
  cpu executor;
  const sequences s;
  const gated_delta_rule<double> mixer{.qk_l2norm = true};
  const auto part = [](const auto& a, index from, index n) { return a.view().slice(1, from, n); };
  const auto run = [&](index from, index n, recurrent_state<double>& state) {
    array<double, 4> o({1, n, H, V});
    scan(executor, mixer, {.q = part(s.q, from, n), .k = part(s.k, from, n), .v = part(s.v, from, n), .g = part(s.g, from, n), .beta = part(s.beta, from, n)}, state, {.o = o});
    return o;
  };
  auto whole = mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V}), folded = whole;
  const auto expected = run(0, 9, whole);
  run(0, 4, folded);
  const initial_states<recurrent_state<double>> set{{{0, folded}}, {.factor = 1.0}};
  auto rest = deployed<double>(set, 0);
  const auto o = run(4, 5, rest);
  for (index i = 0; i < o.size(); ++i) CHECK(o.data()[i] == Approx(expected.data()[4 * H * V + i]).margin(1e-13));
  CHECK(test::largest_difference(rest.matrix, whole.matrix) < 1e-13);
}

TEST_CASE("states that do not fit say whose they are") {
  using Catch::Matchers::Contains;
  using set = initial_states<recurrent_state<double>>;
  const set one{{{0, random_state(1, 1)}}, {}}, other{{{0, recurrent_state<double>{array<double, 4>({1, H + 1, K, V}), {}}}}, {}};
  const std::vector<const set*> rows{&one, &other};
  CHECK_THROWS_WITH((start<double, recurrent_state<double>>(0, rows)), Contains("initial state of row") && Contains("layer 0") && Contains("[1, 2, 3, 4]"));
  CHECK_THROWS_WITH((deployed<double>(one, 4)), Contains("layer 4: expected a tuned initial state, got none"));
  set trained = one;
  state_training<double, recurrent_state<double>> training(trained);
  CHECK_THROWS_WITH(training.add(0, recurrent_state<double>{array<double, 4>({2, H, K + 1, V}), {}}), Contains("gradient of the initial state of layer 0: matrix: expected [1, 2, 3, 4]"));
  CHECK_THROWS_WITH(training.add(0, recurrent_state<double>()), Contains("expected a part matrix, got none"));
}

}  // namespace
