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

  weft::array<double, 4> exact(o.extent());
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
        exact(0, t, h, j) = y / std::sqrt(static_cast<double>(K));
      }
    }
  }
  CHECK(test::largest_difference(o, exact) <= 16 * 0x1p-23 * test::largest(exact));
}

namespace {

// Its gates and values come before its keys: unit keys are counted among the keys.
struct keys_last {
  template <class Rep>
  struct inputs {
    weft::gate<Rep> beta;
    weft::value<Rep> v;
    weft::key_gate<Rep> g;
    weft::key<Rep> k, q;
  };
  static constexpr weft::axes axes{.decay = weft::decay::per_channel, .erase = weft::erase::tied};
  static constexpr std::array names{"beta", "v", "g", "k", "q"};
  static constexpr int unit_keys = 1;
  template <class R>
  static weft::key_terms<R> key_side(const auto& in) {
    return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = in.g};
  }
  template <class R>
  static R write(const auto& in) {
    return in.beta * in.v;
  }
};

}  // namespace

TEST_CASE("unit keys are counted among the inputs of a key's role") {
  STATIC_REQUIRE(weft::is_unit_key<keys_last>(3));
  STATIC_REQUIRE_FALSE(weft::is_unit_key<keys_last>(0));
  STATIC_REQUIRE_FALSE(weft::is_unit_key<keys_last>(2));
  STATIC_REQUIRE_FALSE(weft::is_unit_key<keys_last>(4));
  STATIC_REQUIRE_FALSE(weft::is_unit_key<keys_last>(-1));
  constexpr weft::index T = 20, H = 1, K = 8, V = 8;
  contract::dice d(4);
  weft::array<float, 4> q({1, T, H, K}), k = q, g = q, v({1, T, H, V}), o = v, o_literal = v, o_long = v;
  weft::array<float, 3> beta({1, T, H});
  for (weft::index i = 0; i < q.size(); ++i) q.data()[i] = static_cast<float>(d.normal()), k.data()[i] = static_cast<float>(d.normal()), g.data()[i] = -0.1f;
  for (weft::index i = 0; i < v.size(); ++i) v.data()[i] = static_cast<float>(d.normal());
  for (weft::index i = 0; i < beta.size(); ++i) beta.data()[i] = static_cast<float>(d.uniform(0, 1));

  const weft::recurrence<keys_last, float> mixer{.qk_l2norm = true};
  weft::cpu cpu;
  const auto run = [&](auto& to, auto&& call) {
    auto state = mixer.state({.batch = 1, .heads = H, .key_dim = K, .value_dim = V});
    call(decltype(mixer)::inputs{.beta = beta, .v = v, .g = g, .k = k, .q = q}, state, to);
  };
  run(o_literal, [&](const auto& in, auto& state, auto& to) { weft::literal(mixer, in, state, {.o = to}); });
  run(o, [&](const auto& in, auto& state, auto& to) { weft::scan(cpu, mixer, in, state, {.o = to}); });
  for (weft::index i = 0; i < k.size(); ++i) k.data()[i] *= 9;  // of a key made unit length only the direction counts
  run(o_long, [&](const auto& in, auto& state, auto& to) { weft::scan(cpu, mixer, in, state, {.o = to}); });
  for (weft::index i = 0; i < o.size(); ++i) {
    CHECK(o.data()[i] == Approx(o_literal.data()[i]).margin(1e-5));
    CHECK(o_long.data()[i] == Approx(o.data()[i]).margin(1e-5));
  }
}
