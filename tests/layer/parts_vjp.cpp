// Norms, rotations, activations and gates.
#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/gates_vjp.hpp>
#include <weft/layer/norm_vjp.hpp>
#include <weft/layer/rotary_vjp.hpp>

#include "gradient.hpp"
#include "refusals.hpp"

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
  rms_norm_gated_vjp<double>(executor, x, z, w, d_o, x, z, {}, options);  // and over what came in
  CHECK(test::largest_difference(x, d_x) == 0.0);
  if (gate != activation::none) CHECK(test::largest_difference(z, d_z) == 0.0);
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

TEST_CASE("activations refuse what is no tensor, and results over what they read or over each other") {
  using test::shifted;
  cpu executor;
  constexpr auto act = activation::silu;
  auto x = normal<double, 3>({2, 3, 11}, 1), z = normal<double, 3>(x.extent(), 2), d_y = normal<double, 3>(x.extent(), 3), d_x = d_y, d_z = d_y;
  const test::refusals r(x, z, d_y, d_x, d_z);
  const auto activates = [&](auto from, auto to) { activate<double>(executor, from, act, to); };
  r.input("x", x.view(), [&](auto v) { activates(v, d_x.view()); });
  r.result("y", d_x.view(), [&](auto v) { activates(x.view(), v); });
  r.says("y: expected memory apart from x", [&] { activates(x.view(), shifted(x.view())); });

  const auto multiplies = [&](auto a, auto b, auto to) { multiply<double>(executor, a, b, act, to); };
  r.input("x", x.view(), [&](auto v) { multiplies(v, z.view(), d_x.view()); });
  r.input("z", z.view(), [&](auto v) { multiplies(x.view(), v, d_x.view()); });
  r.result("y", d_x.view(), [&](auto v) { multiplies(x.view(), z.view(), v); });
  r.says("y: expected memory apart from x", [&] { multiplies(x.view(), z.view(), shifted(x.view())); });
  r.says("y: expected memory apart from z", [&] { multiplies(x.view(), z.view(), shifted(z.view())); });

  const auto activates_back = [&](auto from, auto d, auto to) { activate_vjp<double>(executor, from, act, d, to); };
  r.input("x", x.view(), [&](auto v) { activates_back(v, d_y.view(), d_x.view()); });
  r.input("d_y", d_y.view(), [&](auto v) { activates_back(x.view(), v, d_x.view()); });
  r.result("d_x", d_x.view(), [&](auto v) { activates_back(x.view(), d_y.view(), v); });
  r.says("d_x: expected memory apart from d_y", [&] { activates_back(x.view(), d_y.view(), shifted(d_y.view())); });

  const auto multiplies_back = [&](auto a, auto b, auto d, auto to_a, auto to_b) { multiply_vjp<double>(executor, a, b, act, d, to_a, to_b); };
  r.input("x", x.view(), [&](auto v) { multiplies_back(v, z.view(), d_y.view(), d_x.view(), d_z.view()); });
  r.input("z", z.view(), [&](auto v) { multiplies_back(x.view(), v, d_y.view(), d_x.view(), d_z.view()); });
  r.input("d_y", d_y.view(), [&](auto v) { multiplies_back(x.view(), z.view(), v, d_x.view(), d_z.view()); });
  r.result("d_x", d_x.view(), [&](auto v) { multiplies_back(x.view(), z.view(), d_y.view(), v, d_z.view()); }, true);
  r.result("d_z", d_z.view(), [&](auto v) { multiplies_back(x.view(), z.view(), d_y.view(), d_x.view(), v); }, true);
  r.says("d_z: expected memory apart from d_x", [&] { multiplies_back(x.view(), z.view(), d_y.view(), d_y.view(), d_y.view()); });
  r.says("d_z: expected memory apart from z", [&] { multiplies_back(x.view(), z.view(), d_y.view(), d_x.view(), shifted(z.view())); });
}

TEST_CASE("norms and rotations refuse what is no tensor, and results over what they read or over each other") {
  using test::shifted;
  cpu executor;
  auto x = normal<double, 4>({2, 3, 1, 6}, 1), z = normal<double, 4>(x.extent(), 2), d_o = normal<double, 4>(x.extent(), 3), d_x = d_o, d_z = d_o;
  auto w = normal<double, 1>({6}, 4), d_w = w;
  const test::refusals r(x, z, d_o, d_x, d_z, w, d_w);
  const auto gated = [&](auto x_, auto z_, auto w_, auto d, auto to_x, auto to_z, auto to_w) { rms_norm_gated_vjp<double>(executor, x_, z_, w_, d, to_x, to_z, to_w); };
  r.input("x", x.view(), [&](auto v) { gated(v, z.view(), w.view(), d_o.view(), d_x.view(), d_z.view(), d_w.view()); });
  r.input("z", z.view(), [&](auto v) { gated(x.view(), v, w.view(), d_o.view(), d_x.view(), d_z.view(), d_w.view()); });
  r.input("weight", w.view(), [&](auto v) { gated(x.view(), z.view(), v, d_o.view(), d_x.view(), d_z.view(), d_w.view()); }, true);
  r.input("d_o", d_o.view(), [&](auto v) { gated(x.view(), z.view(), w.view(), v, d_x.view(), d_z.view(), d_w.view()); });
  r.result("d_x", d_x.view(), [&](auto v) { gated(x.view(), z.view(), w.view(), d_o.view(), v, d_z.view(), d_w.view()); }, true);
  r.result("d_z", d_z.view(), [&](auto v) { gated(x.view(), z.view(), w.view(), d_o.view(), d_x.view(), v, d_w.view()); }, true);
  r.result("d_weight", d_w.view(), [&](auto v) { gated(x.view(), z.view(), w.view(), d_o.view(), d_x.view(), d_z.view(), v); }, true);
  const view<double, 1> row(d_x.data(), {6});
  r.says("d_x: expected memory apart from weight", [&] { gated(x.view(), z.view(), row, d_o.view(), d_x.view(), d_z.view(), d_w.view()); });
  r.says("d_x: expected memory apart from d_o", [&] { gated(x.view(), z.view(), w.view(), d_o.view(), shifted(d_o.view()), d_z.view(), d_w.view()); });
  r.says("d_z: expected memory apart from d_x", [&] { gated(x.view(), z.view(), w.view(), d_o.view(), d_x.view(), d_x.view(), d_w.view()); });
  r.says("d_weight: expected memory apart from weight", [&] { gated(x.view(), z.view(), w.view(), d_o.view(), d_x.view(), d_z.view(), w.view()); });
  r.says("d_weight: expected memory apart from d_x", [&] { gated(x.view(), z.view(), w.view(), d_o.view(), d_x.view(), d_z.view(), row); });

  const auto unit = [&](auto x_, auto d, auto to) { l2_norm_vjp<double>(executor, x_, d, to); };
  r.input("x", x.view(), [&](auto v) { unit(v, d_o.view(), d_x.view()); });
  r.input("d_o", d_o.view(), [&](auto v) { unit(x.view(), v, d_x.view()); });
  r.result("d_x", d_x.view(), [&](auto v) { unit(x.view(), d_o.view(), v); });
  r.says("d_x: expected memory apart from d_o", [&] { unit(x.view(), d_o.view(), shifted(d_o.view())); });

  auto cos = normal<double, 3>({2, 3, 2}, 5), sin = cos;
  const test::refusals turned(d_o, d_x, cos, sin);
  const auto turns_back = [&](auto d, auto c, auto s, auto to) { rotary_vjp<double>(executor, d, c, s, to); };
  turned.input("d_o", d_o.view(), [&](auto v) { turns_back(v, cos.view(), sin.view(), d_x.view()); });
  turned.input("cos", cos.view(), [&](auto v) { turns_back(d_o.view(), v, sin.view(), d_x.view()); });
  turned.input("sin", sin.view(), [&](auto v) { turns_back(d_o.view(), cos.view(), v, d_x.view()); });
  turned.result("d_x", d_x.view(), [&](auto v) { turns_back(d_o.view(), cos.view(), sin.view(), v); });
  const view<double, 3> angles(d_x.data(), cos.extent());
  turned.says("d_x: expected memory apart from cos", [&] { turns_back(d_o.view(), angles, sin.view(), d_x.view()); });
  turned.says("d_x: expected memory apart from sin", [&] { turns_back(d_o.view(), cos.view(), angles, d_x.view()); });
  turned.says("d_x: expected memory apart from d_o", [&] { turns_back(d_o.view(), cos.view(), sin.view(), shifted(d_o.view())); });
}

TEST_CASE("gates refuse what is no tensor, and results over what they read or over each other") {
  using test::shifted;
  cpu executor;
  auto gate = decay_gate<double>::make(normal<double, 1>({3}, 1), normal<double, 1>({6}, 2));
  auto a = normal<double, 3>({2, 2, 6}, 3), d_g = a, d_a = a;
  const test::refusals r(gate.A_log, gate.bias, a, d_g, d_a);
  const auto decays = [&](auto from, auto to) { decay<double>(executor, gate, from, to); };
  r.input("a", a.view(), [&](auto v) { decays(v, d_a.view()); });
  r.result("g", d_a.view(), [&](auto v) { decays(a.view(), v); });
  r.says("g: expected memory apart from a", [&] { decays(a.view(), shifted(a.view())); });
  r.says("g: expected memory apart from dt_bias", [&] { decays(view<const double, 3>(a.data(), {1, 1, 6}), view<double, 3>(gate.bias.data(), {1, 1, 6})); });

  const auto decays_back = [&](auto from, auto d, auto to, decay_gate<double>* to_gate) { decay_vjp<double>(executor, gate, from, d, to, to_gate); };
  r.input("a", a.view(), [&](auto v) { decays_back(v, d_g.view(), d_a.view(), nullptr); });
  r.input("d_g", d_g.view(), [&](auto v) { decays_back(a.view(), v, d_a.view(), nullptr); });
  r.result("d_a", d_a.view(), [&](auto v) { decays_back(a.view(), d_g.view(), v, nullptr); });
  r.says("d_a: expected memory apart from d_g", [&] { decays_back(a.view(), d_g.view(), shifted(d_g.view()), nullptr); });
  r.says("d_A_log: expected memory apart from A_log", [&] { decays_back(a.view(), d_g.view(), d_a.view(), &gate); });

  r.result("b", a.view(), [&](auto v) { writing_strength(executor, v); });
  const auto back = [&](auto beta, auto d, auto to) { writing_strength_vjp<double>(executor, beta, d, to); };
  r.input("beta", a.view(), [&](auto v) { back(v, d_g.view(), d_a.view()); });
  r.input("d_beta", d_g.view(), [&](auto v) { back(a.view(), v, d_a.view()); });
  r.result("d_b", d_a.view(), [&](auto v) { back(a.view(), d_g.view(), v); });
  r.says("d_b: expected memory apart from beta", [&] { back(a.view(), d_g.view(), shifted(a.view())); });
}

}  // namespace
