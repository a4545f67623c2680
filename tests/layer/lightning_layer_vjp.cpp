#include <weft/layer/lightning_layer_vjp.hpp>

#include "layer_problem.hpp"

TEST_CASE("gradients of the Lightning attention layer") {
  using weft::index;
  const bool packed = GENERATE(false, true);
  const index hidden = 5, heads = 2, dim = 3, width = heads * dim;
  test::layer_problem<weft::lightning_layer<double>> p;
  auto& l = p.layer;
  l.heads = heads;
  l.head_dim = dim;
  l.norm_eps = 1e-3;
  l.qkv = test::random_projection(3 * width, hidden, 1);
  l.g = weft::array<double, 1>({heads});
  for (index h = 0; h < heads; ++h) l.g(h) = -0.3 * static_cast<double>(h + 1);
  l.gate = test::random_projection(width, hidden, 2);
  l.norm = test::normal<double, 1>({width}, 3);
  l.out = test::random_projection(hidden, width, 4);
  p.x = test::normal<double, 3>({packed ? 1 : 2, 8, hidden}, 5);
  p.d_y = test::normal<double, 3>(p.x.extent(), 6);
  if (packed) p.cu = {0, 3, 8};
  p.start = l.state({.batch = 2});
  test::fill(p.start, 7);
  p.d_end = p.start;
  test::fill(p.d_end, 9);
  test::check_layer(p);
}
