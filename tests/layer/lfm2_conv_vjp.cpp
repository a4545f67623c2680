#include <weft/layer/lfm2_conv_vjp.hpp>

#include "layer_problem.hpp"

TEST_CASE("gradients of the LFM2 convolution layer") {
  using L = weft::lfm2_conv<double>;
  const bool packed = GENERATE(false, true);
  const weft::index hidden = 5, taps = 3;
  test::layer_problem<L> p;
  p.layer = {.in = test::random_projection(3 * hidden, hidden, 1, true), .conv = test::normal<double, 2>({hidden, taps}, 2),
             .conv_bias = test::normal<double, 1>({hidden}, 3), .out = test::random_projection(hidden, hidden, 4)};
  p.x = test::normal<double, 3>({packed ? 1 : 2, 8, hidden}, 5);
  p.d_y = test::normal<double, 3>(p.x.extent(), 6);
  if (packed) p.cu = {0, 5, 5, 8};
  p.start = p.layer.state({.batch = packed ? 3 : 2});
  test::fill(p.start, 7);
  p.d_end = p.start;
  test::fill(p.d_end, 8);
  test::check_layer(p);
}
