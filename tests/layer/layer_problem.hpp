// A random small layer in double, its loss and its gradients.
#pragma once
#include <functional>
#include <map>
#include <string>

#include <weft/core/gradient_memory.hpp>
#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/layer_vjp.hpp>

#include "../catch.hpp"
#include "gradient.hpp"

namespace test {

using weft::index;

inline weft::projection<double> random_projection(index out, index in, unsigned seed, bool bias = false) {
  return {normal<double, 2>({out, in}, seed, 0.5), bias ? normal<double, 1>({out}, seed + 100, 0.5) : weft::array<double, 1>()};
}

template <class State>
void fill(State& s, unsigned seed, double scale = 0.5) {
  weft::io::for_each_array(s, "", [&](const std::string&, auto& a) {
    if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(a)>::element, double>)
      if (!a.null()) a = normal<double, std::remove_cvref_t<decltype(a)>::rank>(a.extent(), seed++, scale);
  });
}

template <class L>
struct layer_problem {
  using state_type = typename L::state_type;
  using state_gradient = typename L::state_gradient;

  L layer;
  weft::array<double, 3> x, d_y;
  state_type start;
  state_gradient d_end;  // null: no gradient of the state
  std::vector<index> cu;

  struct result {
    weft::array<double, 3> y, x;
    typename L::parameter_gradients parameters;
    state_gradient state;
  };

  // The sum that all gradients are of. A state's part counts where d_end has a part of its name.
  double loss() const {
    weft::cpu executor;
    auto state = start;
    weft::array<double, 3> y(x.extent());
    weft::scan(executor, layer, {.x = x}, state, {.y = y}, cu);
    double sum = dot(y, d_y);
    weft::for_each_parameter(d_end, [&](const std::string& name, const auto& d) {
      weft::for_each_parameter(state, [&](const std::string& other, const auto& a) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a)>, std::remove_cvref_t<decltype(d)>>)
          if (name == other) sum += dot(a, d);
      });
    });
    return sum;
  }

  result gradients(weft::cpu& executor, index every = 16) const {
    result r{weft::array<double, 3>(x.extent()), weft::array<double, 3>(x.extent()), weft::zero_gradients(layer), d_end};
    weft::tape tape{.every = every};
    auto state = start;
    weft::scan(executor, layer, {.x = x}, state, {.y = r.y}, tape, cu);
    weft::vjp(executor, layer, {.x = x}, tape, {.y = d_y}, r.state, {.x = r.x, .parameters = &r.parameters});
    return r;
  }
};

template <class A, class B>
double difference_of_parts(A& a, B& b) {
  double d = 0;
  weft::for_each_parameter(a, b, [&](const std::string&, const auto& left, const auto& right) { d = std::max(d, largest_difference(left, right)); });
  return d;
}
// All gradients of two results, relative to the numbers.
template <class R>
double difference_of_gradients(R& a, R& b) {
  double d = relative_difference(a.x, b.x);
  weft::for_each_parameter(a.parameters, b.parameters, [&](const std::string&, const auto& left, const auto& right) { d = std::max(d, relative_difference(left, right)); });
  weft::for_each_parameter(a.state, b.state, [&](const std::string&, const auto& left, const auto& right) { d = std::max(d, relative_difference(left, right)); });
  return d;
}

// What gradient_memory tells of a layer's calls is what tape and executor come to hold.
template <class L>
void check_memory(const layer_problem<L>& p, index every) {
  weft::cpu forwards, back;
  weft::tape tape{.every = every};
  weft::array<double, 3> y(p.x.extent()), d_x(p.x.extent());
  auto d = weft::zero_gradients(p.layer);
  auto state = p.start;
  auto d_state = weft::zero_state_gradient(p.layer, state);
  const auto told = weft::gradient_memory(forwards, p.layer, {.x = p.x}, p.start, {.y = y}, {.y = p.d_y}, {.x = d_x, .parameters = &d}, every, p.cu);
  CHECK(forwards.bytes() == 0);
  weft::scan(forwards, p.layer, {.x = p.x}, state, {.y = y}, tape, p.cu);
  weft::vjp(back, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = d_x, .parameters = &d});
  CHECK(told.tape == tape.bytes());
  CHECK(told.vjp == back.bytes());
  CHECK(told.tape > 0);
  CHECK(told.vjp > 0);
}

// Every gradient against differences; the choices of what is kept and wanted; threads; pieces.
template <class L>
void check_layer(layer_problem<L> p) {
  weft::cpu executor;
  const auto loss = [&] { return p.loss(); };
  auto got = p.gradients(executor);
  {
    weft::array<double, 3> y(p.x.extent());
    auto state = p.start;
    weft::scan(executor, p.layer, {.x = p.x}, state, {.y = y}, p.cu);
    CHECK(largest_difference(y, got.y) == 0.0);
  }
  CHECK(relative_difference(got.x, differences(p.x, loss)) < gradient_bound);
  int parameters = 0;
  weft::for_each_parameter(p.layer, got.parameters, [&](const std::string& name, auto& a, const auto& d) {
    CAPTURE(name);
    CHECK(relative_difference(d, differences(a, loss)) < gradient_bound);
    ++parameters;
  });
  CHECK(parameters > 0);
  weft::for_each_parameter(got.state, [&](const std::string& name, const auto& d) {
    weft::for_each_parameter(p.start, [&](const std::string& other, auto& a) {
      CAPTURE(name);
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a)>, std::remove_cvref_t<decltype(d)>>)
        if (name == other) CHECK(relative_difference(d, differences(a, loss)) < gradient_bound);
    });
  });

  auto recomputed = p.gradients(executor, 0);
  CHECK(difference_of_gradients(recomputed, got) < 1e-12);
  for (const index every : {0, 16}) check_memory(p, every);
  for (const int helpers : {1, 3}) {
    Eigen::ThreadPool threads(helpers);
    weft::eigen_pool pool(threads);
    weft::cpu parallel(pool);
    auto same = p.gradients(parallel);
    CHECK(largest_difference(same.x, got.x) == 0.0);
    CHECK(difference_of_parts(same.parameters, got.parameters) == 0.0);
    CHECK(difference_of_parts(same.state, got.state) == 0.0);
  }

  weft::tape tape;  // frozen weights; the state alone; one parameter alone
  auto state = p.start;
  weft::array<double, 3> y(p.x.extent()), d_x(p.x.extent());
  weft::scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape, p.cu);
  auto d_state = p.d_end;
  weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = d_x});
  CHECK(relative_difference(d_x, got.x) < 1e-12);
  CHECK(difference_of_parts(d_state, got.state) < 1e-11);
  d_state = p.d_end;
  weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state);
  CHECK(difference_of_parts(d_state, got.state) < 1e-11);
  typename L::parameter_gradients only;
  only.out.weight = weft::array<double, 2>(p.layer.out.weight.extent());
  d_state = p.d_end;
  weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.parameters = &only});
  CHECK(difference_of_parts(only, got.parameters) < 1e-11);

  if (!p.cu.empty()) return;
  const index time = p.x.extent(1), cut = time / 3 + 1;
  typename layer_problem<L>::result whole{got.y, weft::array<double, 3>(p.x.extent()), weft::zero_gradients(p.layer), p.d_end};
  weft::tape tapes[2];
  state = p.start;
  const auto part = [&](const auto& v, int i) { return i == 0 ? v.slice(1, 0, cut) : v.slice(1, cut, time - cut); };
  const weft::view<const double, 3> xs = p.x, d_ys = p.d_y;
  for (const int i : {0, 1}) weft::scan(executor, p.layer, {.x = part(xs, i)}, state, {.y = part(y.view(), i)}, tapes[i]);
  for (const int i : {1, 0})
    weft::vjp(executor, p.layer, {.x = part(xs, i)}, tapes[i], {.y = part(d_ys, i)}, whole.state, {.x = part(whole.x.view(), i), .parameters = &whole.parameters});
  CHECK(difference_of_gradients(whole, got) < 1e-11);
}

}  // namespace test
