// Embedding, feed-forward and the loss.
#include <weft/layer/cross_entropy.hpp>
#include <weft/layer/embedding.hpp>
#include <weft/layer/feed_forward_vjp.hpp>

#include "layer_problem.hpp"
#include "refusals.hpp"

namespace {

using namespace weft;
using weft::index;

array<std::int64_t, 2> tokens_below(index count, std::array<index, 2> extent, unsigned seed) {
  array<std::int64_t, 2> t(extent);
  std::mt19937 bits(seed);
  for (index i = 0; i < t.size(); ++i) t.data()[i] = static_cast<std::int64_t>(bits() % static_cast<unsigned>(count));
  return t;
}

TEST_CASE("gradients of the feed-forward layer") {
  cpu executor;
  feed_forward<double> l{test::random_projection(7, 5, 1), test::random_projection(7, 5, 2, true), test::random_projection(5, 7, 3)};
  auto x = test::normal<double, 3>({2, 4, 5}, 4);
  const auto d_y = test::normal<double, 3>(x.extent(), 5);
  const auto loss = [&] {
    no_state none;
    array<double, 3> y(x.extent());
    scan(executor, l, {.x = x}, none, {.y = y});
    return test::dot(y, d_y);
  };
  const index every = GENERATE(0, 64);
  tape tape{.every = every};
  no_state none, d_none;
  array<double, 3> y(x.extent()), d_x(x.extent());
  auto d = zero_gradients(l);
  scan(executor, l, {.x = x}, none, {.y = y}, tape);
  vjp(executor, l, {.x = x}, tape, {.y = d_y}, d_none, {.x = d_x, .parameters = &d});
  CHECK(test::relative_difference(d_x, test::differences(x, loss)) < test::gradient_bound);
  int count = 0;
  for_each_parameter(l, d, [&](const std::string& name, auto& a, const auto& g) {
    CAPTURE(name);
    CHECK(test::relative_difference(g, test::differences(a, loss)) < test::gradient_bound);
    ++count;
  });
  CHECK(count == 4);
}

TEST_CASE("embedding and its gradient") {
  cpu executor;
  embedding<double> e{test::normal<double, 2>({6, 70}, 1)}, d{array<double, 2>({6, 70})};
  const auto tokens = tokens_below(6, {2, 9}, 2);
  array<double, 3> x({2, 9, 70});
  embed(executor, e, tokens.view(), x);
  CHECK(x(1, 3, 69) == e.weight(tokens(1, 3), 69));
  const auto d_x = test::normal<double, 3>(x.extent(), 3);
  embed_vjp<double>(executor, tokens.view(), d_x, d);
  const auto expected = test::differences(e.weight, [&] {
    embed(executor, e, tokens.view(), x);
    return test::dot(x, d_x);
  });
  CHECK(test::relative_difference(d.weight, expected) < test::gradient_bound);
  auto wrong = tokens;
  wrong(1, 2) = 6;
  CHECK_THROWS_WITH(embed(executor, e, wrong.view(), x), Catch::Matchers::Contains("tokens: expected 0 to 5, got 6 at [1, 2]"));
}

TEST_CASE("cross-entropy and its gradients; tokens without a target do not count") {
  cpu executor;
  const index vocabulary = GENERATE(1, 11), hidden = 4;
  auto head = test::random_projection(vocabulary, hidden, 1, true);
  auto x = test::normal<double, 3>({2, 7, hidden}, 2, 3.0);
  auto targets = tokens_below(vocabulary, {2, 7}, 3);
  targets(0, 2) = targets(1, 6) = no_target;
  const auto loss = [&] { return cross_entropy<double>(executor, head, x, targets.view()).mean(); };

  double sum = 0;
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 7; ++t) {
      if (targets(b, t) == no_target) continue;
      double denominator = 0, at = 0;
      for (index v = 0; v < vocabulary; ++v) {
        double logit = head.bias(v);
        for (index c = 0; c < hidden; ++c) logit += head.weight(v, c) * x(b, t, c);
        denominator += std::exp(logit);
        if (v == targets(b, t)) at = logit;
      }
      sum += std::log(denominator) - at;
    }
  CHECK(loss() == Approx(sum / 12).epsilon(1e-12).margin(1e-14));

  array<double, 3> d_x(x.extent());
  projection<double> d{array<double, 2>(head.weight.extent()), array<double, 1>(head.bias.extent())};
  const token_loss got = cross_entropy<double>(executor, head, x, targets.view(), d_x, &d);
  CHECK(got.count == 12);
  CHECK(got.mean() == loss());
  CHECK(test::relative_difference(d_x, test::differences(x, loss)) < test::gradient_bound);
  CHECK(test::relative_difference(d.weight, test::differences(head.weight, loss)) < test::gradient_bound);
  CHECK(test::relative_difference(d.bias, test::differences(head.bias, loss)) < test::gradient_bound);

  targets(1, 1) = vocabulary;
  CHECK_THROWS_WITH(loss(), Catch::Matchers::Contains("targets: expected 0 to " + std::to_string(vocabulary - 1) + " (-1: none)"));
}

TEST_CASE("cross-entropy over a large vocabulary, in pieces, has no overflow and the same bits for any number of threads") {
  const index vocabulary = 70000, hidden = 8, time = 40;  // two pieces
  const projection<float> head{test::normal<float, 2>({vocabulary, hidden}, 1, 40.0), {}};
  const auto x = test::normal<float, 3>({1, time, hidden}, 2);
  const auto targets = tokens_below(vocabulary, {1, time}, 3);
  const auto run = [&](cpu& executor, array<float, 3>& d_x, projection<float>& d) { return cross_entropy<float>(executor, head, x, targets.view(), d_x, &d).sum; };
  cpu serial;
  array<float, 3> expected_x(x.extent());
  projection<float> expected{array<float, 2>(head.weight.extent()), {}};
  const double sum = run(serial, expected_x, expected);
  CHECK(std::isfinite(sum));
  CHECK(sum > 0);
  Eigen::ThreadPool threads(3);
  eigen_pool pool(threads);
  cpu executor(pool);
  array<float, 3> d_x(x.extent());
  projection<float> d{array<float, 2>(head.weight.extent()), {}};
  CHECK(run(executor, d_x, d) == sum);
  CHECK(test::largest_difference(d_x, expected_x) == 0.0);
  CHECK(test::largest_difference(d.weight, expected.weight) == 0.0);
}

TEST_CASE("embedding and cross-entropy refuse what is no tensor, and results over what they read or over each other") {
  cpu executor;
  embedding<double> e{test::normal<double, 2>({6, 4}, 1)};
  auto tokens = tokens_below(6, {2, 3}, 2);
  auto x = test::normal<double, 3>({2, 3, 4}, 3), d_x = x;
  projection<double> head{test::normal<double, 2>({6, 4}, 4), {}}, d{array<double, 2>({6, 4})};
  const test::refusals r(e.weight, tokens, x, d_x, head.weight, d.weight);
  const auto embeds = [&](auto from, auto to) { embed<double>(executor, e, from, to); };
  r.input("tokens", tokens.view(), [&](auto v) { embeds(v, x.view()); });
  r.result("x", x.view(), [&](auto v) { embeds(tokens.view(), v); });
  r.says("x: expected memory apart from weight", [&] { embeds(tokens.view(), view<double, 3>(e.weight.data(), x.extent())); });
  r.input("tokens", tokens.view(), [&](auto v) { embed_vjp<double>(executor, v, x, e); });
  r.input("d_x", x.view(), [&](auto v) { embed_vjp<double>(executor, tokens.view(), v, e); });
  r.says("d_weight: expected memory apart from d_x", [&] { embed_vjp<double>(executor, tokens.view(), view<double, 3>(e.weight.data(), x.extent()), e); });

  const auto loss = [&](auto from, auto to, auto d_from, projection<double>* d_head) { cross_entropy<double>(executor, head, from, to, d_from, d_head); };
  r.input("x", x.view(), [&](auto v) { loss(v, tokens.view(), d_x.view(), &d); });
  r.result("d_x", d_x.view(), [&](auto v) { loss(x.view(), tokens.view(), v, &d); }, true);
  r.says("targets: expected [2, 3], got a null view", [&] { loss(x.view(), view<std::int64_t, 2>(nullptr, tokens.extent()), d_x.view(), &d); });
  r.says("d_x: expected memory apart from x", [&] { loss(x.view().slice(0, 1, 1), tokens.view().slice(0, 1, 1), view<double, 3>(x.data() + 4, {1, 3, 4}), &d); });
  r.says("d_x: expected memory apart from weight", [&] { loss(x.view(), tokens.view(), view<double, 3>(head.weight.data(), x.extent()), &d); });
  r.says("d_weight: expected memory apart from weight", [&] { loss(x.view(), tokens.view(), d_x.view(), &head); });
  r.says("d_weight: expected memory apart from d_x", [&] { loss(x.view(), tokens.view(), view<double, 3>(d.weight.data(), x.extent()), &d); });
}

}  // namespace
