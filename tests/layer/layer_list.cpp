// Layers one after another, of a tuple and of a list: gradients, states, and that both are one.
#include <weft/layer/any_layer_vjp.hpp>
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/layer/feed_forward_vjp.hpp>
#include <weft/layer/layer_list.hpp>

#include <filesystem>

#include "layer_problem.hpp"

namespace {

using namespace weft;
using weft::index;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

constexpr index width = 5;

feed_forward<double> inner(unsigned seed) {
  return {test::random_projection(7, width, seed), test::random_projection(7, width, seed + 1), test::random_projection(width, 7, seed + 2)};
}
delta_net<double> net(unsigned seed) {
  delta_net<double> l{.options = {.key_heads = 1, .value_heads = 2, .key_dim = 3, .value_dim = 2, .norm_eps = 1e-3}};
  l.qkv = test::random_projection(10, width, seed);
  l.conv = test::normal<double, 2>({10, 4}, seed + 1, 0.3);
  l.b = test::random_projection(2, width, seed + 2);
  l.a.up = test::random_projection(2, width, seed + 3);
  l.z.up = test::random_projection(4, width, seed + 4);
  l.decay = decay_gate<double>::make(test::normal<double, 1>({2}, seed + 5), test::normal<double, 1>({2}, seed + 6));
  l.norm = test::normal<double, 1>({2}, seed + 7);
  l.out = test::random_projection(width, 4, seed + 8);
  return l;
}

const auto three = schedule(net(10), inner(20), net(30));
const std::vector<any_layer<double>> listed{erase_with_gradients(net(10)), erase_with_gradients(inner(20)), erase_with_gradients(net(30))};

auto problem(index time) {
  test::layer_problem<std::remove_const_t<decltype(three)>> p;
  p.layer = three;
  p.x = test::normal<double, 3>({2, time, width}, 40, 0.5);
  p.d_y = test::normal<double, 3>(p.x.extent(), 41);
  p.start = three.state({.batch = 2});
  test::fill(p.start, 42, 0.3);
  p.d_end = p.start;
  test::fill(p.d_end, 50);
  return p;
}
// The same numbers behind any_state.
void put(any_state& to, auto& from) {
  const auto parts = to.parts();
  std::size_t i = 0;
  for_each_parameter(from, [&](const std::string& name, const auto& a) {
    REQUIRE(i < parts.size());
    CHECK(parts[i].name == name);
    std::copy_n(reinterpret_cast<const std::byte*>(a.data()), a.bytes(), const_cast<std::byte*>(parts[i++].data));
  });
  CHECK(i == parts.size());
}
bool same(const any_state& a, const any_state& b) {
  const auto x = a.parts(), y = b.parts();
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const tensor& s, const tensor& t) {
    return s.name == t.name && s.shape == t.shape && std::equal(s.data, s.data + s.bytes(), t.data);
  });
}

}  // namespace

TEST_CASE("gradients of a schedule are differences, whatever its tape keeps and whatever is wanted") {
  cpu executor;
  auto p = problem(6);
  const auto loss = [&] { return p.loss(); };
  auto got = p.gradients(executor);
  CHECK(test::relative_difference(got.x, test::differences(p.x, loss)) < test::gradient_bound);
  int parameters = 0;
  for_each_parameter(p.layer, got.parameters, [&](const std::string& name, auto& a, const auto& d) {
    CAPTURE(name);
    CHECK(test::relative_difference(d, test::differences(a, loss)) < test::gradient_bound);
    parameters += name.starts_with("1.") || name.starts_with("2.");
  });
  CHECK(parameters > 9);
  for_each_parameter(p.start, got.state, [&](const std::string& name, auto& a, const auto& d) {
    CAPTURE(name);
    CHECK(test::relative_difference(d, test::differences(a, loss)) < test::gradient_bound);
  });
  auto recomputed = p.gradients(executor, 0);
  CHECK(test::difference_of_gradients(recomputed, got) < 1e-12);

  // The last layer's state alone; nothing below it is gone through.
  tape tape;
  auto state = p.start;
  array<double, 3> y(p.x.extent());
  scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape);
  decltype(p)::state_gradient last;
  std::get<2>(last.states) = std::get<2>(p.d_end.states);
  vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, last);
  CHECK(test::difference_of_parts(std::get<2>(last.states), std::get<2>(got.state.states)) < 1e-12);
}

TEST_CASE("a tape of another schedule is refused, and so is one whose scan did not end") {
  cpu executor;
  auto p = problem(4);
  array<double, 3> y(p.x.extent());
  tape tape;
  auto d_state = p.d_end;
  const auto back = [&](const auto& layer, const view<const double, 3>& x) { vjp(executor, layer, {.x = x}, tape, {.y = x}, d_state, {.x = y.view().slice(1, 0, x.extent[1])}); };
  CHECK_THROWS_WITH(back(p.layer, p.x), StartsWith("weft: tape: expected one filled by a scan"));
  auto state = p.start;
  scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape);
  CHECK_THROWS_WITH(back(p.layer, view<const double, 3>(p.x).slice(1, 0, 3)), StartsWith("weft: tape: expected one of a scan of 3 layers over [2, 3, 5], got 3 over [2, 4, 5]"));
  state = three.state({.batch = 3});
  CHECK_THROWS_WITH(scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape), StartsWith("weft: 0.state.conv: expected [2,"));
  CHECK_THROWS_WITH(back(p.layer, p.x), Contains("whose scan did not end"));
  CHECK_THROWS_WITH(scan(executor, p.layer, {.x = y}, state, {.y = y}, tape), Contains("y: expected memory apart from x"));
}

TEST_CASE("a list of layers known at run time is the schedule of them") {
  cpu executor;
  auto p = problem(9);
  auto expected = p.gradients(executor);
  auto model = schedule(listed);
  auto state = model.state({.batch = 2}), start = state;
  auto d_state = model.zero_state_gradient(state);
  put(start, p.start);
  put(d_state, p.d_end);
  state = start;
  auto d = model.zero_gradients();
  tape tape{.every = 16};
  array<double, 3> y(p.x.extent()), d_x(p.x.extent());
  scan(executor, model, {.x = p.x}, state, {.y = y}, tape);
  vjp(executor, model, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = d_x, .parameters = &d});
  CHECK(test::largest_difference(y, expected.y) == 0.0);
  CHECK(test::largest_difference(d_x, expected.x) == 0.0);
  std::size_t i = 0;
  const auto gradients = d.list(), own = model.parameters();
  for_each_parameter(expected.parameters, [&](const std::string& name, const auto& a) {
    REQUIRE(i < gradients.size());
    CHECK(gradients[i].name == name);
    CHECK(own.at(i).name == name);
    CHECK(std::equal(gradients[i].numbers.begin(), gradients[i].numbers.end(), a.data(), a.data() + a.size()));
    ++i;
  });
  CHECK(i == gradients.size());
  auto expected_state = model.state({.batch = 2});
  put(expected_state, expected.state);
  CHECK(same(d_state, expected_state));

  // The state alone, of one layer.
  auto last = model.zero_state_gradient(state);
  put(last, p.d_end);
  auto& each = *static_cast<std::vector<any_state>*>(last.get()->value());
  each[0] = each[1] = any_state();
  vjp(executor, model, {.x = p.x}, tape, {.y = p.d_y}, last);
  const auto whole = d_state.parts();
  for (const tensor& t : last.parts()) {
    const auto of = std::find_if(whole.begin(), whole.end(), [&](const tensor& w) { return w.name == t.name; });
    REQUIRE(of != whole.end());
    for (weft::index n = 0; n < t.bytes() / 8; ++n)
      CHECK(std::abs(reinterpret_cast<const double*>(t.data)[n] - reinterpret_cast<const double*>(of->data)[n]) < 1e-12);
  }
}

TEST_CASE("the state of a list is saved, gathered and resumed") {
  cpu executor;
  const auto p = problem(9);
  const auto model = schedule(listed);
  auto whole = model.state({.batch = 2}), state = whole;
  array<double, 3> y(p.x.extent()), pieces(p.x.extent());
  scan(executor, model, {.x = p.x}, whole, {.y = y});
  const view<const double, 3> x = p.x;
  scan(executor, model, {.x = x.slice(1, 0, 4)}, state, {.y = pieces.view().slice(1, 0, 4)});

  tensor_writer writer;
  save_parts(state, writer, "model");
  const auto path = std::filesystem::temp_directory_path() / "weft-layer-list.safetensors";
  writer.write(path);
  auto restored = restore_parts(model, tensor_file::read(path), "model");
  std::filesystem::remove(path);
  CHECK(same(restored, state));
  CHECK(restored.parts().front().name == "0.conv");
  restored = restored.gather(std::vector<weft::index>{1, 0}).gather(std::vector<weft::index>{1, 0});
  for (weft::index t = 4; t < 9; ++t) step(executor, model, {.x = x.slice(1, t, 1)}, restored, {.y = pieces.view().slice(1, t, 1)});
  CHECK(test::largest_difference(y, pieces) < 1e-13);
}

TEST_CASE("a list says what is wrong with it, and does not begin") {
  cpu executor;
  CHECK_THROWS_WITH(schedule(std::vector<any_layer<double>>()), "weft: schedule: expected at least one layer, got none");
  auto wide = listed;
  wide.push_back(erase_with_gradients(feed_forward<double>{test::random_projection(2, 6, 1), test::random_projection(2, 6, 2), test::random_projection(6, 2, 3)}));
  CHECK_THROWS_WITH(schedule(wide), "weft: schedule: expected layers of one width, 5, got 6 for layer 3");

  const auto model = schedule(listed), two = schedule(std::vector<any_layer<double>>{listed[0], listed[2]});
  const auto p = problem(3);
  array<double, 3> y(p.x.extent());
  auto state = model.state({.batch = 2}), other = two.state({.batch = 2});
  CHECK_THROWS_WITH(scan(executor, model, {.x = p.x}, other, {.y = y}), "weft: state: expected those of a list of 3 layers, got others");
  auto& each = *static_cast<std::vector<any_state>*>(state.get()->value());
  each[2] = listed[2].state({.batch = 3});
  const auto before = state;
  CHECK_THROWS_WITH(scan(executor, model, {.x = p.x}, state, {.y = y}), StartsWith("weft: 2.state.conv: expected [2,"));
  CHECK(same(state, before));
  CHECK(test::largest_difference(y, array<double, 3>(y.extent())) == 0.0);
}
