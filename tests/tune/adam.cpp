#include "../catch.hpp"

#include <filesystem>
#include <limits>

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/cross_entropy.hpp>
#include <weft/layer/embedding.hpp>
#include <weft/layer/feed_forward_vjp.hpp>
#include <weft/tune/adam.hpp>

#include "../layer/random.hpp"

namespace {

using namespace weft;
using weft::index;

// The bytes of a text after each other: an embedding, a feed-forward layer and a head.
struct tiny_model {
  embedding<float> in{test::normal<float, 2>({8, 12}, 1, 0.3)};
  feed_forward<float> middle{projection<float>{test::normal<float, 2>({16, 12}, 2, 0.3), {}}, projection<float>{test::normal<float, 2>({16, 12}, 3, 0.3), {}},
                             projection<float>{test::normal<float, 2>({12, 16}, 4, 0.3), array<float, 1>({12})}};
  projection<float> head{test::normal<float, 2>({8, 12}, 5, 0.3), {}};

  auto parts() { return std::tuple{part{"in", in}, part{"middle", middle}, part{"head", head}}; }
  auto parts() const { return std::tuple{part{"in", in}, part{"middle", middle}, part{"head", head}}; }
};

struct training {
  tiny_model model, gradients;
  adam<float> optimiser{{.beta2 = 0.95, .decay = 0.1}};
  cosine_schedule schedule{.peak = 0.02, .warm_up = 5, .steps = 100};
  std::vector<trained<float>> list;

  training() { add_trained(list, model, gradients); }
  training(const training&) = delete;

  double step(cpu& executor) {
    array<std::int64_t, 2> tokens({2, 16}), next({2, 16});
    for (index i = 0; i < tokens.size(); ++i) {
      tokens.data()[i] = i * i % 8;
      next.data()[i] = (3 * tokens.data()[i] + 1) % 8;
    }
    clear_gradients<float>(list);
    array<float, 3> x({2, 16, 12}), y(x.extent()), d_x(x.extent()), d_y(x.extent());
    no_state none, d_none;
    tape tape;
    embed(executor, model.in, tokens.view(), x);
    scan(executor, model.middle, {.x = x}, none, {.y = y}, tape);
    const double loss = cross_entropy<float>(executor, model.head, y, next.view(), d_y, &gradients.head).mean();
    vjp(executor, model.middle, {.x = x}, tape, {.y = d_y}, d_none, {.x = d_x, .parameters = &gradients.middle});
    embed_vjp<float>(executor, tokens.view(), d_x, gradients.in);
    check_gradients<float>(list, optimiser.steps());
    clip_gradients<float>(list, 1.0);
    optimiser.step(executor, list, schedule(optimiser.steps()));
    return loss;
  }
  double distance(const training& other) const {
    double d = 0;
    for (std::size_t i = 0; i < list.size(); ++i) d = std::max(d, test::largest_difference(list[i].value, other.list[i].value));
    return d;
  }
};

struct numbers {
  array<double, 1> value, gradient;
  std::vector<trained<double>> list;
  explicit numbers(index count, bool decays = true) : value(test::normal<double, 1>({count}, 1)), gradient(test::normal<double, 1>({count}, 2)) {
    const auto n = static_cast<std::size_t>(count);
    list.push_back({"w", {value.data(), n}, {gradient.data(), n}, decays});
  }
};

TEST_CASE("Adam and AdamW equal their equations") {
  cpu executor;
  const bool decays = GENERATE(false, true);
  const adam_options o{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3, .decay = 0.3, .l2 = 0.2};
  numbers n(11, decays);
  adam<double> optimiser(o);
  std::vector<double> p(n.list[0].value.begin(), n.list[0].value.end()), m(11), v(11);
  for (int t = 1; t <= 4; ++t) {
    const double rate = 0.1 / t;
    for (std::size_t i = 0; i < 11; ++i) {
      n.list[0].gradient[i] = std::sin(static_cast<double>(i) + t);
      const double g = n.list[0].gradient[i] + o.l2 * p[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      p[i] -= rate * (m[i] / (1 - std::pow(o.beta1, t)) / (std::sqrt(v[i] / (1 - std::pow(o.beta2, t))) + o.eps) + (decays ? o.decay * p[i] : 0.0));
    }
    optimiser.step(executor, n.list, rate);
    for (std::size_t i = 0; i < 11; ++i) CHECK(n.list[0].value[i] == Approx(p[i]).epsilon(1e-13).margin(1e-14));
  }
  CHECK(optimiser.steps() == 4);
  numbers other(12);
  CHECK_THROWS_WITH(optimiser.step(executor, other.list, 0.1), Catch::Matchers::Contains("expected parameter w of 11 numbers as before, got w of 12"));
  CHECK_THROWS_WITH(adam<double>({.beta2 = 1.0}), Catch::Matchers::Contains("beta1, beta2: expected numbers in [0, 1)"));
}

TEST_CASE("gradients are clipped by their common norm, and NaN is named with its step") {
  numbers a(5), b(3);
  b.list[0].name = "layers.1.conv";
  std::vector<trained<double>> both{a.list[0], b.list[0]};
  const auto norm = [&] {
    double s = 0;
    for (const auto& p : both)
      for (const double g : p.gradient) s += g * g;
    return std::sqrt(s);
  };
  const double before = norm(), first = a.gradient(0);
  CHECK(clip_gradients<double>(both, 100.0) == Approx(before));
  CHECK(a.gradient(0) == first);
  CHECK(clip_gradients<double>(both, 0.5) == Approx(before));
  CHECK(norm() == Approx(0.5));
  CHECK(a.gradient(0) / first == Approx(0.5 / before));
  CHECK_NOTHROW(check_gradients<double>(both, 7));
  b.gradient(2) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(check_gradients<double>(both, 7), Catch::Matchers::Contains("gradient of layers.1.conv: expected finite numbers, got") && Catch::Matchers::Contains("at element 2 in step 7"));
}

TEST_CASE("the cosine schedule climbs, falls and stays") {
  const cosine_schedule s{.peak = 2.0, .warm_up = 4, .steps = 24, .last = 0.25};
  CHECK(s(0) == Approx(0.5));
  CHECK(s(3) == Approx(2.0));
  CHECK(s(4) == Approx(2.0));
  CHECK(s(14) == Approx(2.0 * 0.625));
  CHECK(s(24) == Approx(0.5));
  CHECK(s(1000) == Approx(0.5));
  for (index i = 4; i < 24; ++i) CHECK(s(i + 1) < s(i));
}

TEST_CASE("a tiny model learns; a run that was stopped goes on bit by bit, on any number of threads") {
  const auto file = std::filesystem::temp_directory_path() / "weft_test_adam.safetensors";
  cpu serial;
  training whole;
  const double first = whole.step(serial);
  CHECK(first > 1.5);  // log 8 = 2.08 nats, about
  for (int i = 1; i < 60; ++i) whole.step(serial);
  const double last = whole.step(serial);
  CHECK(last < 0.05);

  Eigen::ThreadPool threads(2);
  eigen_pool pool(threads);
  cpu executor(pool);
  training half, rest;
  for (int i = 0; i < 30; ++i) half.step(executor);
  tensor_writer writer;
  save_parts(half.model, writer, "model");
  half.optimiser.save_parts(writer);
  writer.write(file);
  const tensor_file saved = tensor_file::read(file);
  for_each_parameter(rest.model, [&](const std::string& name, auto& a) {
    using array_type = std::remove_cvref_t<decltype(a)>;
    const auto read = to_array<float, array_type::rank>(saved.at("model." + name));
    std::copy_n(read.data(), read.size(), a.data());
  });
  rest.optimiser.restore_parts(rest.list, saved);
  for (int i = 30; i < 61; ++i) rest.step(serial);
  CHECK(rest.optimiser.steps() == whole.optimiser.steps());
  CHECK(rest.distance(whole) == 0.0);

  numbers other(5);
  adam<double> of_another_type;
  CHECK_THROWS_WITH(of_another_type.restore_parts(other.list, saved), Catch::Matchers::Contains("\"adam.w\""));
  std::filesystem::remove(file);
}

}  // namespace
