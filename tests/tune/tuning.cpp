#include "../catch.hpp"

#include <csignal>
#include <fstream>

#include <sys/wait.h>
#include <unistd.h>

#include <weft/tune/low_rank.hpp>
#include <weft/tune/soft_prefix.hpp>
#include <weft/tune/tuning.hpp>

#include "../layer/gradient.hpp"

namespace {

using namespace weft;
using Catch::Matchers::Contains;
using weft::index;

// |p - (1, 2, 3)|^2 by hand.
struct bowl {
  array<double, 1> p{{3}}, d{{3}};
  std::vector<trained<double>> list{{"layers.2.recurrent", {p.data(), 3}, {d.data(), 3}}};
  double loss(index) {
    double sum = 0;
    for (index i = 0; i < 3; ++i) {
      const double e = p(i) - static_cast<double>(i + 1);
      d(i) += 2 * e;
      sum += e * e;
    }
    return sum;
  }
};

struct folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("weft_test_tuning_" + std::to_string(::getpid()));
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
};

TEST_CASE("the loop is the published one: L2 before clipping, a common norm, Adam without a schedule") {
  cpu executor;
  const tuning_options o{.steps = 4, .rate = 0.1, .l2 = 0.3, .clip = 2.0};
  bowl b;
  b.p(0) = 0.5;
  std::vector<double> p{0.5, 0, 0}, m(3), v(3), losses;
  const auto report = tune(executor, b.list, o, [&](index step) { return b.loss(step); });
  for (int t = 1; t <= 4; ++t) {
    std::vector<double> g(3);
    double norm = 0, loss = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double e = p[i] - static_cast<double>(i + 1);
      loss += e * e;
      g[i] = 2 * e + 2 * o.l2 * p[i];
      norm += g[i] * g[i];
    }
    norm = std::sqrt(norm);
    losses.push_back(loss);
    for (std::size_t i = 0; i < 3; ++i) {
      const double clipped = norm > o.clip ? g[i] * o.clip / norm : g[i];
      m[i] = 0.9 * m[i] + 0.1 * clipped;
      v[i] = 0.999 * v[i] + 0.001 * clipped * clipped;
      p[i] -= o.rate * m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
  REQUIRE(report.losses.size() == 4);
  double norm = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(b.p(static_cast<index>(i)) == Approx(p[i]).epsilon(1e-12));
    norm += p[i] * p[i];
  }
  for (std::size_t t = 0; t < 4; ++t) CHECK(report.losses[t] == Approx(losses[t]).epsilon(1e-12));
  CHECK(report.norm == Approx(std::sqrt(norm)));
  CHECK(tuning_options{}.steps == 20);
  CHECK(tuning_options{}.rate == 1e-3);
  CHECK(tuning_options{}.l2 == 5e-4);
  CHECK(tuning_options{}.clip == 1.0);
}

TEST_CASE("a gradient that is no number stops the run, names tensor and step, and keeps the last good checkpoint") {
  const folder f;
  cpu executor;
  bowl b;
  tuning_options o{.steps = 9, .rate = 0.1, .checkpoint = f.path / "run.safetensors"};
  const auto bad = [&](index step) {
    const double loss = b.loss(step);
    if (step == 5) b.d(1) = std::nan("");
    return loss;
  };
  CHECK_THROWS_WITH(tune(executor, b.list, o, bad), Contains("gradient of layers.2.recurrent") && Contains("at element 1 in step 5"));
  bowl five, rest;
  o.checkpoint.clear();
  o.steps = 5;
  tune(executor, five.list, o, [&](index step) { return five.loss(step); });
  CHECK(test::largest_difference(b.p, five.p) == 0.0);
  o = {.steps = 9, .rate = 0.1, .checkpoint = f.path / "run.safetensors", .resume = true};
  const auto report = tune(executor, rest.list, o, [&](index step) { return rest.loss(step); });
  CHECK(report.first_step == 5);
  CHECK(report.losses.size() == 4);
  o.checkpoint.clear();
  o.resume = false;
  bowl whole;
  tune(executor, whole.list, o, [&](index step) { return whole.loss(step); });
  CHECK(test::largest_difference(rest.p, whole.p) == 0.0);  // a resumed run is the unbroken one, bit for bit
  CHECK_THROWS_WITH(tune(executor, b.list, o, [](index) { return std::nan(""); }), Contains("loss: expected a finite number") && Contains("in step 0"));
}

TEST_CASE("a killed run leaves a checkpoint that is whole") {
  const folder f;
  const auto file = f.path / "run.safetensors";
  for (int round = 0; round < 8; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      cpu executor;
      bowl b;
      tune(executor, b.list, {.steps = 1'000'000, .checkpoint = file}, [&](index step) { return b.loss(step); });
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(20'000 + 3'000 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    if (!std::filesystem::exists(file)) continue;
    cpu executor;
    bowl b;
    const auto report = tune(executor, b.list, {.steps = 1, .checkpoint = file, .resume = true}, [&](index step) { return b.loss(step); });
    CHECK(report.first_step >= 1);
  }
  CHECK(std::filesystem::exists(file));
}

TEST_CASE("checkpoints of other runs and options without a meaning are refused") {
  const folder f;
  cpu executor;
  bowl b;
  const tuning_options o{.steps = 2, .checkpoint = f.path / "run.safetensors"};
  const auto loss = [&](index step) { return b.loss(step); };
  tune(executor, b.list, o, loss);
  auto other = o;
  other.resume = true;
  other.rate = 2e-3;
  CHECK_THROWS_WITH(tune(executor, b.list, other, loss), Contains("run.safetensors: metadata rate: expected"));
  other = {.resume = true};
  CHECK_THROWS_WITH(tune(executor, b.list, other, loss), Contains("resume: expected a checkpoint"));
  array<double, 1> p({4}), d({4});
  const std::vector<trained<double>> longer{{"layers.2.recurrent", {p.data(), 4}, {d.data(), 4}}}, renamed{{"layers.3.recurrent", {p.data(), 3}, {d.data(), 3}}};
  other = o;
  other.resume = true;
  CHECK_THROWS_WITH(tune(executor, longer, other, loss), Contains("expected 4 numbers, got 3"));
  CHECK_THROWS_WITH(tune(executor, renamed, other, loss), Contains("value.layers.3.recurrent"));
  std::ofstream(o.checkpoint) << "{}";
  CHECK_THROWS_WITH(tune(executor, b.list, other, loss), Contains("run.safetensors"));
  CHECK_THROWS_WITH(tune(executor, b.list, {.steps = -1}, loss), Contains("steps"));
  CHECK_THROWS_WITH(tune(executor, b.list, {.rate = 0}, loss), Contains("rate"));
}

TEST_CASE("low-rank changes begin as nothing, have the gradients of their factors and leave the weights as they were") {
  auto weight = test::normal<double, 2>({6, 5}, 1);
  const auto frozen = weight;
  array<double, 2> gradient({6, 5});
  const auto x = test::normal<double, 2>({6, 5}, 2);
  const auto loss = [&] {
    double sum = 0;
    for (index i = 0; i < weight.size(); ++i) sum += x.data()[i] * weight.data()[i] * (1 + weight.data()[i]);
    return sum;
  };
  {
    low_rank_weights<double> change(2, 1.5, 3);
    change.add("qkv.k", weight.view(), gradient.view(), 2, 3);
    CHECK(change.parameters() == 2 * 5 + 3 * 2);
    change.merge();
    CHECK(test::largest_difference(weight, frozen) == 0.0);
    const auto list = change.list();
    REQUIRE(list.size() == 2);
    for (std::size_t i = 0; i < list[1].value.size(); ++i) list[1].value[i] = 0.1 * static_cast<double>(i) - 0.2;
    change.merge();
    CHECK(test::largest_difference(weight, frozen) > 0.1);
    for (index c = 0; c < 5; ++c) CHECK(weight(0, c) == frozen(0, c));
    for (index i = 0; i < weight.size(); ++i) gradient.data()[i] = x.data()[i] * (1 + 2 * weight.data()[i]);
    change.collect();
    for (const auto& p : list)
      for (std::size_t i = 0; i < p.value.size(); ++i) {
        const double value = p.value[i];
        p.value[i] = value + 1e-5;
        change.merge();
        const double above = loss();
        p.value[i] = value - 1e-5;
        change.merge();
        const double below = loss();
        p.value[i] = value;
        CHECK(p.gradient[i] == Approx((above - below) / 2e-5).margin(1e-7));
      }
    CHECK(gradient(3, 1) == 0.0);
    change.merge(0.0);
    CHECK(test::largest_difference(weight, frozen) == 0.0);
    change.merge();
    CHECK_THROWS_WITH(change.add("v", weight.view(), gradient.view(), 5, 2), Contains("v: expected rows within 0 to 6, got 2 from 5"));
  }
  CHECK(test::largest_difference(weight, frozen) == 0.0);
  CHECK_THROWS_WITH(low_rank_weights<double>(0), Contains("rank: expected 1 or more"));
}

TEST_CASE("a prefix goes before every sequence, asks for nothing and collects its gradient") {
  soft_prefix<double> prefix(test::normal<double, 2>({2, 3}, 1));
  const auto x = test::normal<double, 3>({2, 4, 3}, 2);
  array<std::int64_t, 2> targets({2, 4});
  targets(1, 3) = 7;
  const auto all = prefix.before(x);
  const auto asked = prefix.before(targets.view(), -1);
  CHECK(all.extent() == std::array<index, 3>{2, 6, 3});
  CHECK(all(1, 1, 2) == prefix.list()[0].value[5]);
  CHECK(all(1, 4, 0) == x(1, 2, 0));
  CHECK(asked(0, 1) == -1);
  CHECK(asked(1, 5) == 7);
  prefix.add(all);
  for (std::size_t i = 0; i < 6; ++i) CHECK(prefix.list()[0].gradient[i] == Approx(2 * prefix.list()[0].value[i]));
  CHECK(prefix.parameters() == 6);
  CHECK_THROWS_WITH(prefix.before(array<double, 3>({1, 2, 4})), Contains("x: expected 3 channels, got 4"));
}

}  // namespace
