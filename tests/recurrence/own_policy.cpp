// A user's policy gets everything that the library's have: the contract in one line, and a loop written by hand to compare with.
#include "contract/everything.hpp"
#include "contract/mixer_subject.hpp"
#include "example_policy.hpp"

TEST_CASE("a user's policy keeps the contract") {
  auto& mixer = contract::add<weft::recurrence<leaky_delta, float>>("leaky_delta");
  mixer.exact = false;  // a sigmoid
  CHECK(mixer.has_gradients());
  contract::hold_to_contract(mixer);
}

TEST_CASE("a user's policy is the loop that its author would write") {
  constexpr weft::index T = 90, H = 2, K = 24, V = 20;
  contract::dice d(3);
  weft::array<float, 4> q({1, T, H, K}), k = q, v({1, T, H, V}), o = v;
  weft::array<float, 3> x({1, T, H}), beta = x;
  for (weft::index i = 0; i < q.size(); ++i) q.data()[i] = static_cast<float>(d.normal()), k.data()[i] = static_cast<float>(d.normal() / 5);
  for (weft::index i = 0; i < v.size(); ++i) v.data()[i] = static_cast<float>(d.normal());
  for (weft::index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(3 + d.normal()), beta.data()[i] = static_cast<float>(d.uniform(0, 1));

  const weft::recurrence<leaky_delta, float> mixer;
  weft::cpu cpu;
  auto state = mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V});
  weft::scan(cpu, mixer, {.q = q, .k = k, .v = v, .x = x, .beta = beta}, state, {.o = o});

  double worst = 0, top = 0;
  for (weft::index h = 0; h < H; ++h) {
    double S[K][V] = {};
    for (weft::index t = 0; t < T; ++t) {
      const double a = 1 / (1 + std::exp(-static_cast<double>(x(0, t, h)))), b = static_cast<double>(beta(0, t, h));
      for (weft::index j = 0; j < V; ++j) {
        double read = 0, y = 0;
        for (weft::index i = 0; i < K; ++i) read += (S[i][j] *= a) * static_cast<double>(k(0, t, h, i));
        for (weft::index i = 0; i < K; ++i) {
          S[i][j] += b * static_cast<double>(k(0, t, h, i)) * (static_cast<double>(v(0, t, h, j)) - read);
          y += S[i][j] * static_cast<double>(q(0, t, h, i));
        }
        y /= std::sqrt(static_cast<double>(K));
        worst = std::max(worst, std::abs(y - static_cast<double>(o(0, t, h, j))));
        top = std::max(top, std::abs(y));
      }
    }
  }
  CHECK(worst <= 16 * 0x1p-23 * top);
}
