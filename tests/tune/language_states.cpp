#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/attention_layer_vjp.hpp>
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/tune/language_states.hpp>
#include <weft/tune/low_rank.hpp>
#include <weft/tune/tuning.hpp>

#include "../layer/layer_problem.hpp"

namespace {

using namespace weft;
using Catch::Matchers::Contains;
using weft::index;

constexpr index hidden = 6, vocabulary = 9;

any_layer<double> net(unsigned seed) {
  delta_net<double> l{.options = {.key_heads = 1, .value_heads = 2, .key_dim = 3, .value_dim = 2}};
  l.qkv = test::random_projection(10, hidden, seed);
  l.conv = test::normal<double, 2>({10, 3}, seed + 1);
  l.b = test::random_projection(2, hidden, seed + 2);
  l.a.up = test::random_projection(2, hidden, seed + 3);
  l.z.up = test::random_projection(4, hidden, seed + 4);
  l.decay = decay_gate<double>::make(array<double, 1>({2}), test::normal<double, 1>({2}, seed + 5));
  l.norm = test::normal<double, 1>({2}, seed + 6);
  l.out = test::random_projection(hidden, 4, seed + 7);
  return erase_with_gradients(l);
}
any_layer<double> attention_net(unsigned seed) {
  attention_layer<double> l{.options = {.heads = 2, .key_heads = 1, .head_dim = 4, .scale = 0.5, .frequencies = {1.0, 0.1}}};
  l.q = test::random_projection(8, hidden, seed);
  l.k = test::random_projection(4, hidden, seed + 1);
  l.v = test::random_projection(4, hidden, seed + 2);
  l.out = test::random_projection(hidden, 8, seed + 3);
  return erase_with_gradients(l);
}

language_model<double> model() {
  language_model<double> m{.in = {test::normal<double, 2>({vocabulary, hidden}, 1)}, .norm = test::normal<double, 1>({hidden}, 2), .head = {test::normal<double, 2>({vocabulary, hidden}, 3), {}}, .unit_offset = true};
  for (unsigned i = 0; i < 3; ++i) {
    auto& b = m.blocks.emplace_back();
    b.mixer = i == 1 ? attention_net(20) : net(30 + 20 * i);
    b.mixer_norm = test::normal<double, 1>({hidden}, 80 + i, 0.3);
    b.inner_norm = test::normal<double, 1>({hidden}, 90 + i, 0.3);
    b.inner = {test::random_projection(5, hidden, 60 + i), test::random_projection(5, hidden, 70 + i), test::random_projection(hidden, 5, 75 + i)};
  }
  return m;
}

struct text {
  array<std::int64_t, 2> tokens{{1, 11}}, targets{{1, 11}};
  std::vector<index> cu{0, 4, 4, 11};  // three sequences, one of them empty
  array<double, 3> x{{1, 11, hidden}};
  explicit text(const language_model<double>& m) {
    cpu executor;
    for (index i = 0; i < 11; ++i) tokens(0, i) = i * i % vocabulary, targets(0, i) = i % 3 == 1 ? no_target : (i + 2) % vocabulary;
    embed(executor, m.in, tokens.view(), x);
  }
  double loss(const language_model<double>& m, std::vector<any_state> states) const {
    cpu executor;
    language_tape<double> tape;
    m.make_room(states, 11);
    hidden_states<double>(executor, m, x, states, tape, cu);
    return language_loss(executor, m, tape, targets.view()).mean();
  }
};

// Virtual keys: a cache that holds so many tokens already.
any_state virtual_tokens(const any_layer<double>& l, index count, unsigned seed) {
  any_state s = l.state({.batch = 1, .capacity = count});
  for (const tensor& t : s.parts()) {
    if (t.name == "length") *numbers_of<std::int64_t>(t).data() = count;
    else
      for (double& x : numbers_of<double>(t)) x = std::sin(static_cast<double>(seed++));
  }
  return s;
}

TEST_CASE("a language model's gradients equal central differences") {
  auto m = model();
  const text t(m);
  cpu executor;
  auto d = zero_gradients(m);
  language_tape<double> tape;
  auto states = m.state({.batch = 3});
  m.make_room(states, 11);
  array<double, 3> d_x(t.x.extent());
  hidden_states<double>(executor, m, t.x, states, tape, t.cu);
  language_loss(executor, m, tape, t.targets.view(), {.x = d_x, .parameters = &d});
  embed_vjp<double>(executor, t.tokens.view(), d_x, d.in);
  index checked = 0;
  for_each_parameter(m, d, [&](const std::string& name, std::span<double> value, std::span<double> gradient, bool) {
    for (std::size_t i = 0; i < value.size(); i += 1 + value.size() / 3) {
      const double x = value[i];
      const auto at = [&](double by) {
        value[i] = x + by;
        text moved(m);
        const double loss = moved.loss(m, m.state({.batch = 3}));
        value[i] = x;
        return loss;
      };
      INFO(name << " " << i);
      CHECK(gradient[i] == Approx((at(1e-5) - at(-1e-5)) / 2e-5).margin(1e-8));
      ++checked;
    }
  });
  CHECK(checked > 80);
}

TEST_CASE("tuned states of several layers, virtual keys among them, have the gradients of a frozen network over sequences of any lengths") {
  const auto m = model();
  const text t(m);
  auto set = zero_states<double>(m, {0, 2}, {.factor = 0.4, .where = GENERATE(scale_at::deploy_only, scale_at::train_and_deploy)});
  set.raw.emplace(1, virtual_tokens(m.blocks[1].mixer, 2, 5));
  for (auto& [layer, raw] : set.raw)
    if (layer != 1)
      for (const tensor& part : raw.parts())
        if (part.name == "recurrent")
          for (std::size_t i = 0; i < numbers_of<double>(part).size(); ++i) numbers_of<double>(part)[i] = 0.3 * std::cos(static_cast<double>(i) + static_cast<double>(layer));
  state_training<double, any_state> training(set);
  REQUIRE(training.list().size() == 4);
  Eigen::ThreadPool threads(2);
  eigen_pool pool(threads);
  cpu executor(pool);
  language_tape<double> tape;
  const auto start = [&] {
    auto states = m.state({.batch = 3});
    for (std::size_t i = 0; i < 3; ++i) states[i] = training.start(static_cast<index>(i), 3);
    return states;
  };
  tuned_loss<double>(executor, m, training, t.x, t.targets.view(), tape, t.cu);
  for (const auto& p : training.list())
    for (std::size_t i = 0; i < p.value.size(); ++i) {
      const double x = p.value[i];
      const auto at = [&](double by) {
        p.value[i] = x + by;
        const double loss = t.loss(m, start());
        p.value[i] = x;
        return loss;
      };
      INFO(p.name << " " << i);
      CHECK(p.gradient[i] == Approx((at(1e-5) - at(-1e-5)) / 2e-5).margin(1e-8));
    }
}

TEST_CASE("the blocks below the lowest tuned one are run once: the same gradients from their kept outputs") {
  const auto m = model();
  const text t(m);
  auto set = zero_states<double>(m, {2});
  state_training<double, any_state> training(set);
  cpu executor;
  language_tape<double> tape;
  const double whole = tuned_loss<double>(executor, m, training, t.x, t.targets.view(), tape, t.cu).mean();
  const std::vector<double> expected(training.list()[0].gradient.begin(), training.list()[0].gradient.end());
  const array<double, 3> below = tape.blocks[2].before;
  clear_gradients<double>(training.list());
  CHECK(tuned_loss<double>(executor, m, training, below, t.targets.view(), tape, t.cu, 2).mean() == Approx(whole).epsilon(1e-14));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(training.list()[0].gradient[i] == Approx(expected[i]).margin(1e-14));
  CHECK_THROWS_WITH(tuned_loss<double>(executor, m, training, below, t.targets.view(), tape, t.cu, 3), Contains("up to the lowest tuned one, 2, got 3"));
}

TEST_CASE("tuning lowers the loss, is switched on and off by row, and leaves the network alone") {
  const auto m = model();
  const text t(m);
  cpu executor;
  language_tape<double> tape;
  auto set = zero_states<double>(m, {0, 2}, {.factor = 1.0});
  state_training<double, any_state> training(set);
  const auto report = tune(executor, training.list(), {.rate = 0.1}, [&](index) { return tuned_loss<double>(executor, m, training, t.x, t.targets.view(), tape, t.cu).mean(); });
  CHECK(report.losses.back() < 0.9 * report.losses.front());
  const std::vector<const initial_states<any_state>*> none(3, nullptr), all(3, &set), mixed{nullptr, &set, &set};
  const double off = t.loss(m, begin<double>(m, none)), on = t.loss(m, begin<double>(m, all));
  CHECK(off == report.losses.front());  // bit for bit what it was
  CHECK(on < 0.9 * off);
  const auto states = begin<double>(m, mixed);
  for (const tensor& part : states[0].parts())
    if (part.name == "recurrent") {
      const auto numbers = numbers_of<double>(part);
      CHECK(std::all_of(numbers.begin(), numbers.begin() + 12, [](double x) { return x == 0; }));
      CHECK(std::equal(numbers.begin() + 12, numbers.begin() + 24, training.list()[0].value.begin()));
    }
  CHECK_THROWS_WITH(zero_states<double>(m, {3}), Contains("blocks: expected 0 to 2, got 3"));
}

TEST_CASE("low-rank changes of a layer's projections train under the same loop") {
  auto m = model();
  const text t(m);
  cpu executor;
  auto d = zero_gradients(m);
  const auto own = m.blocks[0].mixer.parameters(), gradients = d.blocks[0].mixer.list();
  low_rank_weights<double> change(2);
  for (std::size_t i = 0; i < own.size(); ++i)
    if (own[i].name == "qkv.weight" || own[i].name == "out.weight")
      change.add(own[i].name, view<double, 2>(own[i].numbers.data(), {own[i].shape[0], own[i].shape[1]}), view<double, 2>(gradients[i].numbers.data(), {own[i].shape[0], own[i].shape[1]}));
  CHECK(change.parameters() == 2 * (10 + 6) + 2 * (6 + 4));
  const auto report = tune(executor, change.list(), {.steps = 15, .rate = 0.03, .l2 = 0}, [&](index) {
    change.merge();
    auto states = m.state({.batch = 3});
    m.make_room(states, 11);
    language_tape<double> tape;
    hidden_states<double>(executor, m, t.x, states, tape, t.cu);
    const double loss = language_loss(executor, m, tape, t.targets.view(), {.parameters = &d}).mean();
    change.collect();
    return loss;
  });
  CHECK(report.losses.back() < 0.95 * report.losses.front());
  change.restore();
  CHECK(t.loss(m, m.state({.batch = 3})) == report.losses.front());
}

}  // namespace
