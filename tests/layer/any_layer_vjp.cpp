#include <weft/layer/any_layer_vjp.hpp>
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/layer/feed_forward_vjp.hpp>

#include "layer_problem.hpp"

namespace {

using namespace weft;
using weft::index;

feed_forward<double> small() { return {test::random_projection(7, 5, 1), test::random_projection(7, 5, 2), test::random_projection(5, 7, 3)}; }
delta_net<double> net() {
  delta_net<double> l{.options = {.key_heads = 1, .value_heads = 2, .key_dim = 3, .value_dim = 2}};
  l.qkv = test::random_projection(10, 5, 1);
  l.conv = test::normal<double, 2>({10, 4}, 2);
  l.b = test::random_projection(2, 5, 3);
  l.a.up = test::random_projection(2, 5, 4);
  l.z.up = test::random_projection(4, 5, 5);
  l.decay = decay_gate<double>::make(test::normal<double, 1>({2}, 6), test::normal<double, 1>({2}, 7));
  l.norm = test::normal<double, 1>({2}, 8);
  l.out = test::random_projection(5, 4, 9);
  return l;
}

}  // namespace

TEST_CASE("a layer behind one type has the gradients of the layer") {
  cpu executor;
  const auto inner = net();
  auto layer = erase_with_gradients(inner);
  const auto x = test::normal<double, 3>({2, 6, 5}, 10), d_y = test::normal<double, 3>(x.extent(), 11);
  array<double, 3> y(x.extent()), d_x(x.extent()), expected_x(x.extent());

  auto state = inner.state({.batch = 2});
  auto d_state = zero_state_gradient(inner, state);
  auto expected = zero_gradients(inner);
  tape tape;
  scan(executor, inner, {.x = x}, state, {.y = y}, tape);
  vjp(executor, inner, {.x = x}, tape, {.y = d_y}, d_state, {.x = expected_x, .parameters = &expected});

  auto any = layer.state({.batch = 2});
  auto d_any = layer.zero_state_gradient(any);
  auto gradients = layer.zero_gradients();
  scan(executor, layer, {.x = x}, any, {.y = y}, tape);
  vjp(executor, layer, {.x = x}, tape, {.y = d_y}, d_any, {.x = d_x, .parameters = &gradients});
  CHECK(test::largest_difference(d_x, expected_x) == 0.0);
  std::size_t i = 0;
  const auto list = gradients.list();
  for_each_parameter(expected, [&](const std::string& name, const auto& a) {
    REQUIRE(i < list.size());
    CHECK(list[i].name == name);
    CHECK(std::equal(list[i].numbers.begin(), list[i].numbers.end(), a.data(), a.data() + a.size()));
    ++i;
  });
  CHECK(i == list.size());
  CHECK(layer.parameters().size() == i);
  CHECK(d_any.parts().size() == 2);

  any_state nothing;  // no gradient of the state, none of the parameters
  any = layer.state({.batch = 2});
  scan(executor, layer, {.x = x}, any, {.y = y}, tape);
  vjp(executor, layer, {.x = x}, tape, {.y = d_y}, nothing, {.x = d_x});
  CHECK(test::relative_difference(d_x, expected_x) < 1e-13);
}

TEST_CASE("copies of a layer share it until one is to be written") {
  cpu executor;
  auto one = erase_with_gradients(small());
  const auto two = one;
  CHECK(&one.get() == &two.get());
  one.parameters().front().numbers[0] += 1;
  CHECK(&one.get() != &two.get());
  const auto x = test::normal<double, 3>({1, 3, 5}, 4);
  array<double, 3> a(x.extent()), b(x.extent()), c(x.extent());
  auto s = one.state({}), t = two.state({});
  no_state none;
  scan(executor, one, {.x = x}, s, {.y = a});
  scan(executor, two, {.x = x}, t, {.y = b});
  scan(executor, small(), {.x = x}, none, {.y = c});
  CHECK(test::largest_difference(b, c) == 0.0);
  CHECK(test::largest_difference(a, c) > 0.0);
  CHECK(std::isfinite(test::largest_difference(a, c)));
}

TEST_CASE("layers behind one type say what they lack") {
  using Catch::Matchers::Contains;
  cpu executor;
  auto plain = erase_type(small());
  auto layer = erase_with_gradients(small()), other = erase_with_gradients(net());
  const auto x = test::normal<double, 3>({1, 3, 5}, 4);
  array<double, 3> y(x.extent()), d_x(x.extent());
  auto s = plain.state({});
  tape tape;
  CHECK_THROWS_WITH(scan(executor, plain, {.x = x}, s, {.y = y}, tape), Contains("erased without its gradients"));
  CHECK_THROWS_WITH(plain.parameters(), Contains("erased without its gradients"));
  s = layer.state({});
  scan(executor, layer, {.x = x}, s, {.y = y}, tape);
  auto wrong_state = other.state({.batch = 1});
  auto d_wrong = other.zero_state_gradient(wrong_state);
  auto wrong = other.zero_gradients();
  any_state none;
  CHECK_THROWS_WITH(vjp(executor, layer, {.x = x}, tape, {.y = x}, d_wrong, {.x = d_x}), Contains("d_state: expected one that zero_state_gradient made"));
  CHECK_THROWS_WITH(vjp(executor, layer, {.x = x}, tape, {.y = x}, none, {.x = d_x, .parameters = &wrong}), Contains("got another kind's"));
}
