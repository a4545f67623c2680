// Benchmarks of any recurrence policy.
#pragma once
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/backend/cpu/recurrence_vjp.hpp>
#include <weft/core/verbs.hpp>
#include <weft/recurrence/literal.hpp>

#include <string>

#include "sample.hpp"

namespace bench {

// Least work of a token and head, in units of K V: 2 for the read, 2 for each write, and the erase's read and write; an
// erase along the written key (class D) shares its write. Forward and backward: every product with the state or its gradient
// once, and the states computed a second time.
inline double flops_per_element(const weft::axes& a, int micro, verb v) {
  const bool two = a.erase == weft::erase::two_writers;
  const double write = a.erase == weft::erase::none ? 2 : two ? 6 : 4;
  const double back = a.erase == weft::erase::none ? 8 : two ? 18 : 12;
  return v == verb::vjp ? (write + back) * micro + 4 : write * micro + 2;
}

template <class Policy>
struct expected_result {
  index dim = 0;
  weft::array<double, 4> o;
  weft::array<double, 4> state;
};

// The literal form in double on the numbers that T holds; the last width's is kept.
template <class Policy, class T>
const expected_result<Policy>& literal_result(const sample<Policy, T>& in, index dim, int micro) {
  static expected_result<Policy> known;
  if (known.dim == dim) return known;
  weft::recurrence<Policy, double> mixer;
  mixer.micro_steps = micro;
  const auto wide = widened(in);
  auto state = mixer.state({.batch = 1, .heads = heads, .key_dim = dim, .value_dim = dim});
  known.o = weft::array<double, 4>({1, check_time, heads, dim});
  weft::literal(mixer, wide.views, state, {.o = known.o});
  known.state = std::move(state.matrix);
  known.dim = dim;
  return known;
}

// Empty where the verb gives what the literal form gives, else what differs.
template <class Policy, class T>
std::string mismatch(const weft::recurrence<Policy, T>& mixer, weft::cpu& cpu, const point& p) {
  const auto in = make_sample<Policy, T>(check_time, p.dim, mixer.micro_steps);
  const auto& expected = literal_result<Policy, T>(in, p.dim, mixer.micro_steps);
  auto state = mixer.state({.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim});
  weft::array<T, 4> o({1, check_time, heads, p.dim});
  if (p.verb == verb::scan) weft::scan(cpu, mixer, in.views, state, {.o = o});
  else
    for (index t = 0; t < check_time; ++t) weft::step(cpu, mixer, token(in.views, t, mixer.micro_steps), state, {.o = o.view().slice(1, t, 1)});
  const double error = relative_error(o.data(), expected.o.data(), o.size());
  const double state_error = relative_error(state.matrix.data(), expected.state.data(), state.matrix.size());
  if (error > error_bound<T>) return "o differs from the literal form in double by " + std::to_string(error) + " of the largest value";
  if (state_error > error_bound<float>) return "the state differs from the literal form in double by " + std::to_string(state_error) + " of the largest value";
  return {};
}

template <class Policy, class T>
void run_recurrence(benchmark::State& s, const point& p, int micro) {
  weft::recurrence<Policy, T> mixer;
  mixer.micro_steps = micro;
  workers w(p.threads);
  if (const std::string wrong = mismatch(mixer, w.cpu(), p); !wrong.empty()) return s.SkipWithError(wrong.c_str());

  const auto in = make_sample<Policy, T>(p.time, p.dim, micro);
  auto state = mixer.state({.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim});
  weft::array<T, 4> o({1, p.time, heads, p.dim});
  const auto time = static_cast<double>(p.time);
  work one{.tokens = time, .flops = flops_per_element(Policy::axes, micro, p.verb) * time * static_cast<double>(heads * p.dim * p.dim)};
  if (p.verb == verb::step) {
    one.bytes = 2.0 * static_cast<double>(weft::state_bytes(state));
    measure(s, p, one, [&] { weft::step(w.cpu(), mixer, in.views, state, {.o = o}); });
  } else {
    measure(s, p, one, [&] { weft::scan(w.cpu(), mixer, in.views, state, {.o = o}); });
  }
}

// A call with room for its gradients.
template <class Policy, class T>
struct differentiable {
  using M = weft::recurrence<Policy, T>;
  M mixer;
  weft::shape shape;
  sample<Policy, T> in;
  weft::array<T, 4> o, d_o;
  typename M::gradients d_in;
  std::vector<std::vector<typename M::real>> gradients;  // of every input, in the accumulating type

  differentiable(index time, index dim, int micro) : differentiable(make_sample<Policy, T>(time, dim, micro), time, dim, micro) {}
  differentiable(sample<Policy, T> s, index time, index dim, int micro)
      : shape{.batch = 1, .heads = heads, .key_dim = dim, .value_dim = dim}, in(std::move(s)), o({1, time, heads, dim}), d_o(uniform<T, 4>(o.extent(), 23)),
        gradients(weft::input_count<Policy>) {
    mixer.micro_steps = micro;
    weft::for_each_member(d_in, [&](auto& d, auto i) {
      const auto& v = std::get<i>(weft::tie_members(in.views));
      if (v.null()) return;
      gradients[i].resize(static_cast<std::size_t>(v.size()));
      d = weft::view<typename M::real, std::remove_cvref_t<decltype(v)>::rank>(gradients[i].data(), v.extent);
    });
  }
  void run(weft::cpu& cpu, weft::tape& tape, typename M::state_type& state, typename M::state_gradient& d_state) {
    weft::scan(cpu, mixer, in.views, state, {.o = o}, tape);
    weft::vjp(cpu, mixer, in.views, tape, {.o = d_o}, d_state, d_in);
  }
};

// The gradients in double against the literal form's central difference along one direction of all inputs, those in T against
// them.
template <class Policy, class T>
std::string gradient_mismatch(weft::cpu& cpu, const point& p, int micro) {
  constexpr index time = 192;  // several chunks, and quick in the literal form
  differentiable<Policy, T> narrow(time, p.dim, micro);
  differentiable<Policy, double> wide(widened(narrow.in), time, p.dim, micro);
  wide.d_o = converted<double>(narrow.d_o);
  weft::tape tape;
  auto state = wide.mixer.state(wide.shape), d_state = state;
  wide.run(cpu, tape, state, d_state);

  random r(5);
  double got = 0, moved[2] = {0, 0};
  const double step = 1e-6;
  std::vector<std::vector<double>> direction(wide.gradients.size());
  for (std::size_t i = 0; i < direction.size(); ++i)
    for (const double g : wide.gradients[i]) got += g * direction[i].emplace_back(r.uniform(-1, 1));
  for (const int side : {0, 1}) {
    auto at = widened(wide.in);
    weft::for_each_member(at.views, [&](auto& v, auto i) {
      for (std::size_t j = 0; j < direction[i].size(); ++j) const_cast<double*>(v.data)[j] += (side ? step : -step) * direction[i][j];
    });
    auto start = wide.mixer.state(wide.shape);
    weft::literal(wide.mixer, at.views, start, {.o = wide.o});
    for (index j = 0; j < wide.o.size(); ++j) moved[side] += wide.o.data()[j] * wide.d_o.data()[j];
  }
  const double expected = (moved[1] - moved[0]) / (2 * step);
  if (const double error = relative_error(&got, &expected, 1); error > 1e-5)
    return "the gradients differ from the literal form's central difference by " + std::to_string(error);

  auto narrow_state = narrow.mixer.state(narrow.shape);
  auto d_narrow = narrow.mixer.state(narrow.shape);
  narrow.run(cpu, tape, narrow_state, d_narrow);
  for (std::size_t i = 0; i < narrow.gradients.size(); ++i)
    if (const double error = relative_error(narrow.gradients[i].data(), wide.gradients[i].data(), static_cast<index>(wide.gradients[i].size())); error > error_bound<T>)
      return "the gradient of " + std::string(weft::name_of<Policy>(i).text) + " differs from that in double by " + std::to_string(error) + " of the largest value";
  return {};
}

template <class Policy, class T>
void run_gradients(benchmark::State& s, const point& p, int micro) {
  workers w(p.threads);
  if (const std::string wrong = gradient_mismatch<Policy, T>(w.cpu(), p, micro); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  differentiable<Policy, T> call(p.time, p.dim, micro);
  auto state = call.mixer.state(call.shape), d_state = state;
  const auto start = state;
  weft::tape tape;
  const auto time = static_cast<double>(p.time);
  const double flops = flops_per_element(Policy::axes, micro, verb::vjp) * time * static_cast<double>(heads * p.dim * p.dim);
  measure(s, p, {.tokens = time, .flops = flops}, [&] {
    weft::for_each_part(start, state, [](const auto& from, const auto& to) { std::copy_n(from.data.data(), from.data.size(), to.data.data()); });
    weft::for_each_part(start, d_state, [](const auto& from, const auto& to) { std::copy_n(from.data.data(), from.data.size(), to.data.data()); });
    call.run(w.cpu(), tape, state, d_state);
  });
}

template <class Policy>
void add_recurrence(std::string_view op, int micro = 1) {
  add_vjp<float>(op, [micro](benchmark::State& s, const point& p) { run_gradients<Policy, float>(s, p, micro); });
  add<float>(op, {1}, [micro](benchmark::State& s, const point& p) { run_recurrence<Policy, float>(s, p, micro); });
  add<weft::bf16>(op, {1}, [micro](benchmark::State& s, const point& p) { run_recurrence<Policy, weft::bf16>(s, p, micro); });
}

}  // namespace bench
