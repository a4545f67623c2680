// The engine is right for every tile, not only for the ones that this machine's tuning picks: the tiles of all instruction
// sets run here, on whatever registers there are.
#include <cmath>
#include <random>

#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/core/verbs.hpp>
#include <weft/recurrence/all.hpp>
#include <weft/recurrence/literal.hpp>

#include "catch.hpp"
#include "difference.hpp"

namespace {

using namespace weft;

struct case_data {
  static constexpr weft::index tokens = 53, heads = 2, key_dim = 64, value_dim = 40;
  array<float, 4> q{{1, tokens, heads, key_dim}}, k = q, a = q, b = q, v{{1, tokens, heads, value_dim}};
  array<float, 4> channel_g = q;
  array<float, 3> g{{1, tokens, heads}}, beta = g;
  array<float, 4> start{{1, heads, key_dim, value_dim}};

  case_data() {
    std::mt19937 random(7);
    const auto fill = [&](auto& x, float low, float high) {
      std::uniform_real_distribution<float> u(low, high);
      for (weft::index i = 0; i < x.size(); ++i) x.data()[i] = u(random);
    };
    fill(q, -1, 1);
    for (auto* x : {&k, &a, &b}) fill(*x, -0.2f, 0.2f);
    fill(v, -1, 1);
    fill(g, -2, 0);
    fill(channel_g, -2, 0);
    fill(beta, 0, 1);
    fill(start, -1, 1);
    g.data()[30] = channel_g.data()[1000] = -INFINITY;
  }
};

template <recurrence_tile Tile, class M>
void check_tile(const M& mixer, const typename M::inputs& in, const case_data& data) {
  CAPTURE(Tile.tokens, Tile.panel, Tile.read_rows, Tile.read_vectors);
  auto expected_state = mixer.state({.batch = 1, .heads = data.heads, .key_dim = data.key_dim, .value_dim = data.value_dim});
  expected_state.matrix = data.start;
  auto state = expected_state;
  array<float, 4> expected({1, data.tokens, data.heads, data.value_dim}), o = expected;
  literal(mixer, in, expected_state, {.o = expected});

  const typename M::outputs out{.o = o};
  const recurrence_extents x = check_recurrence(mixer, in, state, out, {});
  const policy_source<typename M::policy_type, float, float> policy(mixer, in, out, x);
  const auto job = job_of(policy, mixer, x, state, {});
  cpu executor;
  WEFT_ISA::detail::scan_engine<M::axes, Tile, 64, float>(executor, job);

  const double bound = 16 * 1.2e-7;  // 16 float epsilons of the largest value: the bound of the promises
  CHECK(test::largest_difference(o, expected) <= bound * test::largest(expected));
  CHECK(test::largest_difference(state.matrix, expected_state.matrix) <= bound * test::largest(expected_state.matrix));
}

template <class M>
void check_tiles(const M& mixer, const typename M::inputs& in, const case_data& data) {
  check_tile<recurrence_tile{8, 2, 8, 2, 8, 2, 8, 2}>(mixer, in, data);
  check_tile<recurrence_tile{16, 2, 8, 2, 8, 2, 8, 2}>(mixer, in, data);
  check_tile<recurrence_tile{12, 4, 6, 2, 6, 2, 4, 2}>(mixer, in, data);
  check_tile<recurrence_tile{12, 4, 3, 4, 3, 4, 4, 2}>(mixer, in, data);
  check_tile<recurrence_tile{4, 1, 4, 1, 4, 1, 4, 1}>(mixer, in, data);
}

}  // namespace

TEST_CASE("every tile gives the literal's results: class L") {
  const case_data d;
  check_tiles(simple_gla<float>{}, {.q = d.q, .k = d.k, .v = d.v, .g = d.g}, d);
  check_tiles(gla<float>{}, {.q = d.q, .k = d.k, .v = d.v, .g = d.channel_g}, d);
}

TEST_CASE("every tile gives the literal's results: class D") {
  const case_data d;
  check_tiles(gated_delta_rule<float>{.qk_l2norm = true}, {.q = d.q, .k = d.k, .v = d.v, .g = d.g, .beta = d.beta}, d);
  check_tiles(kda<float>{.qk_l2norm = true}, {.q = d.q, .k = d.k, .v = d.v, .g = d.channel_g, .beta = d.beta}, d);
}

TEST_CASE("every tile gives the literal's results: class R") {
  const case_data d;
  check_tiles(dplr<float>{}, {.q = d.q, .k = d.k, .v = d.v, .g = d.channel_g, .a = d.a, .b = d.b}, d);
}
