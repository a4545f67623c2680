#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/projection_vjp.hpp>

#include "gradient.hpp"
#include "refusals.hpp"

namespace {

using namespace weft;
using weft::index;
using test::differences;
using test::dot;
using test::gradient_bound;
using test::normal;
using test::relative_difference;

template <class T>
projection<T> random_projection(index out, index in, bool bias, unsigned seed = 1) {
  return {normal<T, 2>({out, in}, seed), bias ? normal<T, 1>({out}, seed + 1) : array<T, 1>()};
}
template <class R, class T>
projection<R> zeros_like(const projection<T>& p) {
  return {array<R, 2>(p.weight.extent()), p.bias.null() ? array<R, 1>() : array<R, 1>(p.bias.extent())};
}

TEST_CASE("gradients of projections, one and two") {
  cpu executor;
  const index B = GENERATE(1, 3), n = GENERATE(0, 1, 5), in = GENERATE(1, 9), out = GENERATE(1, 70);
  auto p = random_projection<double>(out, in, true);
  auto x = normal<double, 3>({B, n, in}, 3);
  const auto d_y = normal<double, 3>({B, n, out}, 4);
  const auto loss = [&] {
    array<double, 3> y(d_y.extent());
    project<double>(executor, p, x, y);
    return dot(y, d_y);
  };
  array<double, 3> d_x(x.extent());
  auto d = zeros_like<double>(p);
  project_vjp(executor, p, view<const double, 3>(x), d_y, d_x, &d);
  CHECK(relative_difference(d_x, differences(x, loss)) < gradient_bound);
  CHECK(relative_difference(d.weight, differences(p.weight, loss)) < gradient_bound);
  CHECK(relative_difference(d.bias, differences(p.bias, loss)) < gradient_bound);

  auto twice = d_x;
  project_vjp(executor, p, view<const double, 3>(x), d_y, twice, &d, true);
  for (index i = 0; i < twice.size(); ++i) CHECK(twice.data()[i] == Approx(2 * d_x.data()[i]));
  CHECK(relative_difference(d.bias, differences(p.bias, [&] { return 2 * loss(); })) < gradient_bound);

  low_rank_projection<double> two{random_projection<double>(4, in, false), random_projection<double>(out, 4, true, 7)};
  const auto two_loss = [&] {
    array<double, 3> y(d_y.extent());
    project<double>(executor, two, x, y);
    return dot(y, d_y);
  };
  low_rank_projection<double> d_two{zeros_like<double>(two.down), zeros_like<double>(two.up)};
  project_vjp<double>(executor, two, x, d_y, d_x, &d_two);
  CHECK(relative_difference(d_x, differences(x, two_loss)) < gradient_bound);
  CHECK(relative_difference(d_two.down.weight, differences(two.down.weight, two_loss)) < gradient_bound);
  CHECK(relative_difference(d_two.up.weight, differences(two.up.weight, two_loss)) < gradient_bound);
  CHECK(relative_difference(d_two.up.bias, differences(two.up.bias, two_loss)) < gradient_bound);
}

TEST_CASE("gradients of wide projections and of slices, several blocks each") {
  cpu executor;
  const index rows = 300, in = 290, out = 270;
  const auto p = random_projection<double>(out, in, true);
  const auto x = normal<double, 3>({2, rows, in}, 3), d_y = normal<double, 3>({2, rows, out}, 4);
  array<double, 3> d_x(x.extent()), fused({2, rows, in + out});
  auto d = zeros_like<double>(p);
  project_vjp(executor, p, view<const double, 3>(x), d_y, d_x, &d);
  double worst = 0;
  for (const index o : {index{0}, index{63}, index{64}, out - 1})
    for (const index i : {index{0}, index{255}, index{256}, in - 1}) {
      double sum = 0;
      for (index b = 0; b < 2; ++b)
        for (index t = 0; t < rows; ++t) sum += d_y(b, t, o) * x(b, t, i);
      worst = std::max(worst, test::difference(sum, d.weight(o, i)));
    }
  for (const index t : {index{0}, index{191}, index{192}, rows - 1})
    for (const index i : {index{0}, index{255}, index{256}, in - 1}) {
      double sum = 0;
      for (index o = 0; o < out; ++o) sum += d_y(1, t, o) * p.weight(o, i);
      worst = std::max(worst, test::difference(sum, d_x(1, t, i)));
    }
  CHECK(worst < 1e-11);

  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < rows; ++t) std::copy_n(&d_y(b, t, 0), out, &fused(b, t, in));
  auto again = zeros_like<double>(p);
  project_vjp(executor, p, view<const double, 3>(x), fused.view().slice(2, in, out), fused.view().slice(2, 0, in), &again);
  double apart = test::largest_difference(again.weight, d.weight);
  for (index i = 0; i < in; ++i) apart = std::max(apart, test::difference(fused(1, 7, i), d_x(1, 7, i)));
  CHECK(apart < 1e-11);
}

TEMPLATE_TEST_CASE("gradients of 16-bit projections are float, by the widened numbers", "", bf16, fp16) {
  cpu executor;
  const auto p = random_projection<TestType>(30, 20, true);
  const auto x = normal<TestType, 3>({2, 9, 20}, 3);
  const auto d_y = normal<float, 3>({2, 9, 30}, 4);
  projection<float> wide{array<float, 2>(p.weight.extent()), {}};
  for (index i = 0; i < p.weight.size(); ++i) wide.weight.data()[i] = static_cast<float>(p.weight.data()[i]);
  array<float, 3> wide_x(x.extent()), d_x(x.extent()), expected_x(x.extent());
  for (index i = 0; i < x.size(); ++i) wide_x.data()[i] = static_cast<float>(x.data()[i]);
  auto d = zeros_like<float>(p), expected = zeros_like<float>(p);
  project_vjp(executor, p, view<const TestType, 3>(x), d_y, d_x, &d);
  project_vjp(executor, wide, view<const float, 3>(wide_x), d_y, expected_x, &expected);
  CHECK(test::largest_difference(d_x, expected_x) == 0.0);
  CHECK(test::largest_difference(d.weight, expected.weight) == 0.0);
  CHECK(test::largest_difference(d.bias, expected.bias) == 0.0);
}

TEST_CASE("gradients of projections are the same bits for every number of threads, and only those wanted are written") {
  const auto p = random_projection<float>(300, 130, true);
  const auto x = normal<float, 3>({2, 333, 130}, 3), d_y = normal<float, 3>({2, 333, 300}, 4);
  cpu serial;
  array<float, 3> d_x(x.extent());
  auto d = zeros_like<float>(p);
  project_vjp(serial, p, view<const float, 3>(x), d_y, d_x, &d);
  for (const int helpers : {1, 3}) {
    Eigen::ThreadPool threads(helpers);
    eigen_pool pool(threads);
    cpu executor(pool);
    array<float, 3> got_x(x.extent());
    auto got = zeros_like<float>(p);
    project_vjp(executor, p, view<const float, 3>(x), d_y, got_x, &got);
    CHECK(test::largest_difference(got_x, d_x) == 0.0);
    CHECK(test::largest_difference(got.weight, d.weight) == 0.0);
    CHECK(test::largest_difference(got.bias, d.bias) == 0.0);
  }
  projection<float> only_bias{{}, array<float, 1>({300})};
  project_vjp(serial, p, view<const float, 3>(x), d_y, {}, &only_bias);
  CHECK(test::largest_difference(only_bias.bias, d.bias) == 0.0);
  array<float, 2> wrong({300, 131});
  projection<float> bad{wrong, {}};
  CHECK_THROWS_WITH(project_vjp(serial, p, view<const float, 3>(x), d_y, d_x, &bad), Catch::Matchers::Contains("d_weight: expected [300, 130], got [300, 131]"));
}

TEST_CASE("projections and their gradients refuse what is no tensor, and results over what they read or over each other") {
  using test::shifted;
  cpu executor;
  auto p = random_projection<float>(4, 3, true);
  auto x = normal<float, 3>({2, 2, 3}, 3), d_x = x;
  auto d_y = normal<float, 3>({2, 2, 4}, 4), y = d_y;
  auto d = zeros_like<float>(p);
  const test::refusals r(p.weight, p.bias, x, d_x, d_y, y, d.weight, d.bias);
  const auto projects = [&](auto from, auto to) { project<float>(executor, p, from, to); };
  r.input("x", x.view(), [&](auto v) { projects(v, y.view()); });
  r.result("y", y.view(), [&](auto v) { projects(x.view(), v); });
  const view<const float, 3> one(x.data(), {1, 1, 3}), three(x.data(), {1, 3, 3});
  r.says("y: expected memory apart from weight", [&] { projects(three, view<float, 3>(p.weight.data(), {1, 3, 4})); });
  r.says("y: expected memory apart from bias", [&] { projects(one, view<float, 3>(p.bias.data(), {1, 1, 4})); });
  projection<float> short_bias{p.weight, array<float, 1>({3})};
  r.says("bias: expected [4], got [3]", [&] { project<float>(executor, short_bias, x, y); });

  const auto back = [&](auto from, auto d_from, auto to, projection<float>* parameters) { project_vjp(executor, p, view<const float, 3>(from), d_from, to, parameters); };
  r.input("x", x.view(), [&](auto v) { back(v, d_y.view(), d_x.view(), &d); });
  r.input("d_y", d_y.view(), [&](auto v) { back(x.view(), v, d_x.view(), &d); });
  r.result("d_x", d_x.view(), [&](auto v) { back(x.view(), d_y.view(), v, &d); }, true);
  r.says("d_x: expected memory apart from d_y", [&] { back(x.view(), d_y.view(), view<float, 3>(d_y.data(), x.extent()), &d); });
  r.says("d_x: expected memory apart from weight", [&] { back(x.view(), d_y.view(), view<float, 3>(p.weight.data(), x.extent()), &d); });
  r.says("d_weight: expected memory apart from weight", [&] { back(x.view(), d_y.view(), d_x.view(), &p); });
  r.says("d_weight: expected memory apart from x", [&] { back(view<float, 3>(d.weight.data(), x.extent()), d_y.view(), d_x.view(), &d); });

  low_rank_projection<float> two{random_projection<float>(2, 3, false), random_projection<float>(4, 2, true)};
  low_rank_projection<float> d_two{zeros_like<float>(two.down), zeros_like<float>(two.up)};
  const test::refusals s(two.down.weight, two.up.weight, two.up.bias, x, d_x, d_y, y, d_two.down.weight, d_two.up.weight, d_two.up.bias);
  s.input("x", x.view(), [&](auto v) { project<float>(executor, two, v, y); });
  s.result("y", y.view(), [&](auto v) { project<float>(executor, two, x, v); });
  s.says("y: expected memory apart from weight", [&] { project<float>(executor, two, one, view<float, 3>(two.down.weight.data(), {1, 1, 4})); });
  const auto two_back = [&](auto from, auto d_from, auto to, low_rank_projection<float>* parameters) { project_vjp<float>(executor, two, from, d_from, to, parameters); };
  s.input("x", x.view(), [&](auto v) { two_back(v, d_y.view(), d_x.view(), &d_two); });
  s.input("d_y", d_y.view(), [&](auto v) { two_back(x.view(), v, d_x.view(), &d_two); });
  s.result("d_x", d_x.view(), [&](auto v) { two_back(x.view(), d_y.view(), v, &d_two); }, true);
  s.says("d_weight: expected memory apart from weight", [&] { two_back(x.view(), d_y.view(), d_x.view(), &two); });
  const low_rank_projection<float> unlike{two.down, random_projection<float>(4, 3, false)};
  s.says("up.weight: expected [4, 2], got [4, 3]", [&] { project<float>(executor, unlike, x, y); });
}

}  // namespace
