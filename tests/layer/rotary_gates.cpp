#include "../catch.hpp"

#include <cmath>

#include <weft/layer/gates.hpp>
#include <weft/layer/rotary.hpp>

#include "random.hpp"

namespace {

using namespace weft;
using weft::index;

TEST_CASE("rotary turns the pairs by position times frequency and leaves the rest") {
  cpu executor;
  const bool interleaved = GENERATE(false, true);
  const index rotary_dim = GENERATE(0, 2, 10, 24), D = 24, B = 2, T = 3, H = 2;
  const auto x = test::normal<double, 4>({B, T, H, D}, 1);
  const auto frequencies = rotary_frequencies(rotary_dim, 1000.0);
  const index n = rotary_dim / 2;
  array<std::int64_t, 2> positions({B, T});
  for (index b = 0; b < B; ++b)
    for (index t = 0; t < T; ++t) positions(b, t) = 100 * b + t;
  array<double, 3> cos({B, T, n}), sin({B, T, n});
  rotary_angles<double>(executor, positions, frequencies, cos, sin, 1.5);
  array<double, 4> o(x.extent());
  rotary<double>(executor, x, cos, sin, o, interleaved);

  double worst = 0;
  for (index b = 0; b < B; ++b)
    for (index t = 0; t < T; ++t)
      for (index h = 0; h < H; ++h)
        for (index c = 0; c < D; ++c) {
          double expected = x(b, t, h, c);
          if (c < rotary_dim) {
            const index i = interleaved ? c / 2 : c % n;
            const bool second = interleaved ? c % 2 == 1 : c >= n;
            const index other = interleaved ? c ^ 1 : (second ? c - n : c + n);
            const double angle = static_cast<double>(100 * b + t) * std::pow(1000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
            expected = 1.5 * (x(b, t, h, c) * std::cos(angle) + (second ? 1.0 : -1.0) * x(b, t, h, other) * std::sin(angle));
          }
          worst = std::max(worst, test::difference(o(b, t, h, c), expected));
        }
  CHECK(worst < 1e-13);

  auto y = x;
  rotary<double>(executor, y, cos, sin, y, interleaved);
  CHECK(test::largest_difference(y, o) == 0.0);
}

TEST_CASE("rotary says what is wrong with its arguments") {
  using Catch::Matchers::Contains;
  cpu executor;
  array<std::int64_t, 2> positions({1, 2});
  array<float, 4> x({1, 2, 1, 4}), o(x.extent());
  array<float, 3> cos({1, 2, 2}), sin({1, 2, 2});
  const auto f = rotary_frequencies(4, 1000.0);
  CHECK_THROWS_WITH(rotary_angles<float>(executor, positions, f, cos, cos), Contains("sin: expected memory apart from cos"));
  CHECK_THROWS_WITH(rotary_angles<float>(executor, positions, f, view<float, 3>(cos.data(), cos.extent(), {0, 0, 1}), sin), Contains("cos: expected a place of its own"));
  CHECK_THROWS_WITH(rotary_angles<float>(executor, view<const std::int64_t, 2>(positions.data(), {1, -2}), f, cos, sin), Contains("positions: expected extents from 0 up"));
  CHECK_THROWS_WITH(rotary<float>(executor, x, cos, sin, view<float, 4>(cos.data(), {1, 1, 1, 4})), Contains("o: expected [1, 2, 1, 4]"));
  CHECK_THROWS_WITH(rotary<float>(executor, x.view().slice(1, 0, 1), cos.view().slice(1, 0, 1), sin.view().slice(1, 0, 1), view<float, 4>(cos.data(), {1, 1, 1, 4})), Contains("o: expected memory apart from cos"));
  CHECK_THROWS_WITH(rotary<float>(executor, x.view().slice(1, 0, 1), cos.view().slice(1, 0, 1), sin.view().slice(1, 0, 1), view<float, 4>(sin.data(), {1, 1, 1, 4})), Contains("o: expected memory apart from sin"));
  const view<float, 4> odd(x.data(), {-1, 2, 1, 4}), to(o.data(), odd.extent);
  CHECK_THROWS_WITH(rotary<float>(executor, odd, cos, sin, to), Contains("x: expected extents from 0 up"));
}

TEST_CASE("yarn keeps fast frequencies, divides slow ones and reduces to plain rotary at factor 1") {
  const yarn plain{.base = 10000.0, .factor = 1.0};
  CHECK(plain.attention_factor() == 1.0);
  const auto f = plain.frequencies(32), e = rotary_frequencies(32, 10000.0);
  for (std::size_t i = 0; i < e.size(); ++i) CHECK(f[i] == Approx(e[i]).epsilon(1e-14));

  const yarn longer{.base = 150000.0, .factor = 32.0, .original_context = 4096.0, .truncate = false};
  const auto g = longer.frequencies(64), h = rotary_frequencies(64, 150000.0);
  CHECK(g.front() == h.front());
  CHECK(g.back() == Approx(h.back() / 32.0).epsilon(1e-14));
  CHECK(longer.attention_factor() == Approx(0.1 * std::log(32.0) + 1.0));
}

TEST_CASE("decay gates and writing strengths equal their formulas") {
  cpu executor;
  const index B = 2, T = 3, heads = GENERATE(1, 3), per_head = GENERATE(1, 5);
  const bool bounded = GENERATE(false, true);
  const auto A_log = test::normal<double, 1>({heads}, 1), dt_bias = test::normal<double, 1>({heads * per_head}, 2);
  const auto a = test::normal<double, 3>({B, T, heads * per_head}, 3, 4.0);
  auto g = a;
  const auto gate = decay_gate<double>::make(A_log, dt_bias, bounded ? std::optional(-5.0) : std::nullopt);
  decay<double>(executor, gate, g, g);
  for (index t = 0; t < T; ++t)
    for (index c = 0; c < heads * per_head; ++c) {
      const double rate = std::exp(A_log(c / per_head)), x = a(1, t, c) + dt_bias(c);
      CHECK(g(1, t, c) == Approx(bounded ? -5.0 / (1.0 + std::exp(-rate * x)) : -rate * std::log1p(std::exp(x))).epsilon(1e-13));
      CHECK(g(1, t, c) <= 0.0);
    }
  const auto gate_f = decay_gate<float>::make(test::normal<float, 1>({1}, 1), array<float, 1>({1}));  // the rate is some number, the bias 0
  for (float x = -90.0f; x < 90.0f; x += 0.37f) {
    array<float, 3> one({1, 1, 1});
    one(0, 0, 0) = x;
    decay<float>(executor, gate_f, one, one);
    const double exact = -std::exp(static_cast<double>(gate_f.A_log(0))) * (std::max(0.0, static_cast<double>(x)) + std::log1p(std::exp(-std::abs(static_cast<double>(x)))));
    CHECK(static_cast<double>(one(0, 0, 0)) == Approx(exact).epsilon(1e-6).margin(1e-37));
  }
  auto beta = a;
  writing_strength<double>(executor, beta, 2.0);
  CHECK(beta(0, 1, 0) == Approx(2.0 / (1.0 + std::exp(-a(0, 1, 0)))).epsilon(1e-14));
  CHECK_THROWS_WITH(decay_gate<double>::make(array<double, 1>({2}), array<double, 1>({3})), Catch::Matchers::Contains("dt_bias: expected a multiple of 2"));
}

}  // namespace
