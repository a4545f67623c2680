// Norms, rotations, activations and gates.
#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/gates_vjp.hpp>
#include <weft/layer/norm_vjp.hpp>
#include <weft/layer/rotary_vjp.hpp>

#include "gradient.hpp"

namespace {

using namespace weft;
using weft::index;
using test::differences;
using test::dot;
using test::gradient_bound;
using test::normal;
using test::relative_difference;

TEST_CASE("gradients of the gated rms norm: every order, gate and group") {
  cpu executor;
  const index D = GENERATE(1, 6, 24);
  const auto gate = GENERATE(activation::none, activation::silu, activation::sigmoid);
  const bool norm_first = GENERATE(true, false), offset = GENERATE(true, false);
  const index groups = D % 6 == 0 ? GENERATE(1, 3) : 1;
  const rms_norm_options options{.eps = 1e-3, .gate = gate, .norm_before_gate = norm_first, .group_size = groups == 1 ? 0 : D / groups, .unit_offset = offset};
  auto x = normal<double, 4>({2, 3, 2, D}, 1), z = normal<double, 4>({2, 3, 2, D}, 2);
  auto w = normal<double, 1>({D}, 3);
  const auto d_o = normal<double, 4>(x.extent(), 4);
  const auto loss = [&] {
    array<double, 4> o(x.extent());
    rms_norm_gated<double>(executor, x, z, w, o, options);
    return dot(o, d_o);
  };
  array<double, 4> d_x(x.extent()), d_z(x.extent());
  array<double, 1> d_w({D});
  d_w(0) = 1.0;  // added to
  rms_norm_gated_vjp<double>(executor, x, z, w, d_o, d_x, d_z, d_w, options);
  d_w(0) -= 1.0;
  CHECK(relative_difference(d_x, differences(x, loss)) < gradient_bound);
  CHECK(relative_difference(d_z, differences(z, loss)) < gradient_bound);
  CHECK(relative_difference(d_w, differences(w, loss)) < gradient_bound);

  auto in_place = d_o;
  rms_norm_gated_vjp<double>(executor, x, z, w, in_place, in_place, {}, {}, options);
  CHECK(test::largest_difference(in_place, d_x) == 0.0);
}

TEST_CASE("gradients of the l2 norm") {
  cpu executor;
  const index D = GENERATE(1, 7, 16);
  auto x = normal<double, 4>({1, 4, 2, D}, 1);
  for (index c = 0; c < D; ++c) x(0, 2, 1, c) = 0;
  const auto d_o = normal<double, 4>(x.extent(), 2);
  array<double, 4> d_x(x.extent());
  l2_norm_vjp<double>(executor, x, d_o, d_x, 1e-2);
  CHECK(relative_difference(d_x, differences(x, [&] {
                              array<double, 4> o(x.extent());
                              l2_norm<double>(executor, x, o, 1e-2);
                              return dot(o, d_o);
                            })) < gradient_bound);
}

TEST_CASE("the gradient of a rotation turns back") {
  cpu executor;
  const bool interleaved = GENERATE(false, true);
  auto x = normal<double, 4>({2, 5, 3, 14}, 1);
  const auto d_o = normal<double, 4>(x.extent(), 2);
  const auto cos = normal<double, 3>({2, 5, 5}, 3), sin = normal<double, 3>({2, 5, 5}, 4);  // any: the map is linear
  array<double, 4> d_x(x.extent());
  rotary_vjp<double>(executor, d_o, cos, sin, d_x, interleaved);
  CHECK(relative_difference(d_x, differences(x, [&] {
                              array<double, 4> o(x.extent());
                              rotary<double>(executor, x, cos, sin, o, interleaved);
                              return dot(o, d_o);
                            })) < gradient_bound);
}

TEST_CASE("gradients of activations and of gated products") {
  cpu executor;
  const auto act = GENERATE(activation::none, activation::silu, activation::sigmoid);
  auto x = normal<double, 3>({2, 3, 11}, 1, 3.0), z = normal<double, 3>({2, 3, 11}, 2, 3.0);
  const auto d_y = normal<double, 3>(x.extent(), 3);
  array<double, 3> d_x(x.extent()), d_z(x.extent()), y(x.extent());
  activate_vjp<double>(executor, x, act, d_y, d_x);
  CHECK(relative_difference(d_x, differences(x, [&] {
                              activate<double>(executor, x, act, y);
                              return dot(y, d_y);
                            })) < gradient_bound);
  multiply_vjp<double>(executor, x, z, act, d_y, d_x, d_z);
  const auto loss = [&] {
    multiply<double>(executor, x, z, act, y);
    return dot(y, d_y);
  };
  CHECK(relative_difference(d_x, differences(x, loss)) < gradient_bound);
  CHECK(relative_difference(d_z, differences(z, loss)) < gradient_bound);

  x(0, 0, 0) = -1000, x(0, 0, 1) = 1000;
  activate_vjp<double>(executor, x, act, d_y, d_x);
  CHECK(std::isfinite(d_x(0, 0, 0)));
  CHECK(d_x(0, 0, 1) == Approx(act == activation::sigmoid ? 0.0 : d_y(0, 0, 1)));
}

TEST_CASE("gradients of decay gates and writing strengths") {
  cpu executor;
  const index heads = GENERATE(1, 3), per_head = GENERATE(1, 5);
  const bool bounded = GENERATE(false, true);
  auto gate = decay_gate<double>::make(normal<double, 1>({heads}, 1), normal<double, 1>({heads * per_head}, 2), bounded ? std::optional(-5.0) : std::nullopt);
  auto a = normal<double, 3>({2, 4, heads * per_head}, 3, 3.0);
  const auto d_g = normal<double, 3>(a.extent(), 4);
  const auto loss = [&] {
    array<double, 3> g(a.extent());
    decay<double>(executor, gate, a, g);
    return dot(g, d_g);
  };
  array<double, 3> d_a(a.extent());
  decay_gate<double> d_gate{array<double, 1>({heads}), array<double, 1>({heads * per_head})};
  decay_vjp<double>(executor, gate, a, d_g, d_a, &d_gate);
  CHECK(relative_difference(d_a, differences(a, loss)) < gradient_bound);
  CHECK(relative_difference(d_gate.A_log, differences(gate.A_log, loss)) < gradient_bound);
  CHECK(relative_difference(d_gate.bias, differences(gate.bias, loss)) < gradient_bound);
  auto in_place = d_g;
  decay_vjp<double>(executor, gate, a, in_place, in_place);
  CHECK(test::largest_difference(in_place, d_a) == 0.0);

  array<double, 3> beta(a.extent());
  const auto strength = [&] {
    beta = a;
    writing_strength<double>(executor, beta, 2.0);
    return dot(beta, d_g);
  };
  strength();
  array<double, 3> d_b(a.extent());
  writing_strength_vjp<double>(executor, beta, d_g, d_b, 2.0);
  CHECK(relative_difference(d_b, differences(a, strength)) < gradient_bound);
}

TEST_CASE("sums over rows are the same bits for every number of threads") {
  const auto x = normal<float, 4>({3, 500, 2, 40}, 1), z = normal<float, 4>(x.extent(), 2), d_o = normal<float, 4>(x.extent(), 3);
  const auto w = normal<float, 1>({40}, 4);
  const auto gate = decay_gate<float>::make(normal<float, 1>({8}, 5), normal<float, 1>({80}, 6));
  const view<const float, 3> rows(d_o.data(), {3, 500, 80});
  struct result {
    array<float, 4> d_x, d_z;
    array<float, 1> d_w;
    decay_gate<float> d_gate;
  };
  const auto run = [&](cpu& executor) {
    result r{array<float, 4>(x.extent()), array<float, 4>(x.extent()), array<float, 1>({40}), {array<float, 1>({8}), array<float, 1>({80})}};
    array<float, 3> d_a({3, 500, 80});
    rms_norm_gated_vjp<float>(executor, x, z, w, d_o, r.d_x, r.d_z, r.d_w);
    decay_vjp<float>(executor, gate, rows, rows, d_a, &r.d_gate);
    return r;
  };
  cpu serial;
  const result expected = run(serial);
  for (const int helpers : {1, 3}) {
    Eigen::ThreadPool threads(helpers);
    eigen_pool pool(threads);
    cpu executor(pool);
    const result got = run(executor);
    CHECK(test::largest_difference(got.d_x, expected.d_x) == 0.0);
    CHECK(test::largest_difference(got.d_z, expected.d_z) == 0.0);
    CHECK(test::largest_difference(got.d_w, expected.d_w) == 0.0);
    CHECK(test::largest_difference(got.d_gate.A_log, expected.d_gate.A_log) == 0.0);
    CHECK(test::largest_difference(got.d_gate.bias, expected.d_gate.bias) == 0.0);
  }
}

}  // namespace
