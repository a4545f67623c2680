#include <weft/layer/mamba2_layer_vjp.hpp>

#include "layer_problem.hpp"

TEST_CASE("gradients of the Mamba-2 layer: both orders of its norm, and none") {
  using weft::index;
  const bool packed = GENERATE(false, true);
  const int form = GENERATE(0, 1, 2);  // norm after the gate, before it, none
  const index hidden = 5, heads = 4, head_dim = 3, groups = 2, state_dim = 3, inner = heads * head_dim, mixed = inner + 2 * groups * state_dim;
  test::layer_problem<weft::mamba2_layer<double>> p;
  auto& l = p.layer;
  l.options = {.heads = heads, .head_dim = head_dim, .groups = groups, .state_dim = state_dim, .norm_eps = 1e-3, .norm_before_gate = form == 1};
  l.zxBC = test::random_projection(inner + mixed, hidden, 1, true);
  l.dt = test::random_projection(heads, hidden, 2);
  l.conv = test::normal<double, 2>({mixed, 4}, 3, 0.5);
  if (form != 2) l.conv_bias = test::normal<double, 1>({mixed}, 4, 0.5);
  l.A_log = test::normal<double, 1>({heads}, 5, 0.5);
  l.D = test::normal<double, 1>({heads}, 6);
  l.dt_bias = test::normal<double, 1>({heads}, 7);
  if (form != 2) l.norm = test::normal<double, 1>({inner}, 8);
  l.out = test::random_projection(hidden, inner, 9);
  p.x = test::normal<double, 3>({packed ? 1 : 2, 8, hidden}, 10);
  p.d_y = test::normal<double, 3>(p.x.extent(), 11);
  if (packed) p.cu = {0, 2, 8, 8};
  p.start = l.state({.batch = packed ? 3 : 2});
  test::fill(p.start, 12);
  p.d_end = p.start;
  test::fill(p.d_end, 15);
  test::check_layer(p);
}
