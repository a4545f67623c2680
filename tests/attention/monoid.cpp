// The (m, l, o) monoid: identity, order, splits, sinks and finished parts.
#include <random>
#include <vector>

#include <weft/math/softmax_state.hpp>

#include "catch.hpp"

namespace {

using state = weft::softmax_state<double>;
constexpr double infinity = std::numeric_limits<double>::infinity();

void check_same(const state& a, const state& b) {
  CHECK(a.output() == Approx(b.output()).epsilon(1e-12));
  CHECK(a.log_sum() == Approx(b.log_sum()).epsilon(1e-12));
}

}  // namespace

TEST_CASE("the empty set is the identity, and two of them are one") {
  const state empty, one = state::key(-3.5, 2.0);
  check_same(merge(empty, one), one);
  check_same(merge(one, empty), one);
  const state both = merge(empty, empty);
  CHECK(both.output() == 0);
  CHECK(both.log_sum() == -infinity);
  const state masked = merge(one, state{-infinity, 0, 0});
  check_same(masked, one);
}

TEST_CASE("any split of the keys merges to the same") {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0, 30);
  std::vector<state> keys;
  for (int i = 0; i < 40; ++i) keys.push_back(state::key(normal(random), normal(random)));
  state whole;
  for (const state& k : keys) whole = merge(whole, k);
  for (std::size_t cut = 0; cut <= keys.size(); ++cut) {
    state left, right;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      state& part = i < cut ? left : right;
      part = merge(keys[i], part);
    }
    check_same(merge(left, right), whole);
    check_same(merge(right, left), whole);
    check_same(merge(state::finished(left.output(), left.log_sum()), right), whole);
  }
}

TEST_CASE("a sink enlarges the denominator alone") {
  const state with = merge(state::key(0.0, 3.0), state::sink(std::log(2.0)));
  CHECK(with.output() == Approx(1.0));
  CHECK(with.log_sum() == Approx(std::log(3.0)));
}

TEST_CASE("scores far apart neither overflow nor make a NaN, and a NaN stays") {
  const state far = merge(state::key(-1e4, 1.0), state::key(1e4, 5.0));
  CHECK(far.output() == 5.0);
  CHECK(far.log_sum() == 1e4);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(merge(state::key(nan, 1.0), state::key(0.0, 1.0)).output()));
  CHECK(std::isnan(merge(state::key(0.0, 1.0), state::key(nan, 1.0)).output()));
}
