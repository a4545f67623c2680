// Benchmarks of any recurrence policy.
#pragma once
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/core/verbs.hpp>
#include <weft/recurrence/literal.hpp>

#include <string>

#include "sample.hpp"

namespace bench {

// Least work of a token and head, in units of K V: 2 for the read, 2 for each write, and the erase's read and write; an
// erase along the written key (class D) shares its write.
inline double flops_per_element(const weft::axes& a, int micro) {
  const double write = a.erase == weft::erase::none ? 2 : a.erase == weft::erase::tied ? 4 : 6;
  return write * micro + 2;
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
  work one{.tokens = time, .flops = flops_per_element(Policy::axes, micro) * time * static_cast<double>(heads * p.dim * p.dim)};
  if (p.verb == verb::step) {
    one.bytes = 2.0 * static_cast<double>(weft::state_bytes(state));
    measure(s, p, one, [&] { weft::step(w.cpu(), mixer, in.views, state, {.o = o}); });
  } else {
    measure(s, p, one, [&] { weft::scan(w.cpu(), mixer, in.views, state, {.o = o}); });
  }
}

template <class Policy>
void add_recurrence(std::string_view op, int micro = 1) {
  add<float>(op, {1}, [micro](benchmark::State& s, const point& p) { run_recurrence<Policy, float>(s, p, micro); });
  add<weft::bf16>(op, {1}, [micro](benchmark::State& s, const point& p) { run_recurrence<Policy, weft::bf16>(s, p, micro); });
}

}  // namespace bench
