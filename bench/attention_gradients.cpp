// Forward and backward of attention.
#include <weft/attention/literal.hpp>
#include <weft/backend/cpu/attention_vjp.hpp>
#include <weft/core/verbs.hpp>

#include <algorithm>
#include <array>
#include <string>

#include "operators.hpp"
#include "sample.hpp"

namespace bench {
namespace {

// One call, its cotangent and its gradients.
template <class T>
struct tokens {
  using real = weft::accumulate_t<T>;
  weft::array<T, 4> q, k, v, d_o, o;
  weft::array<real, 4> d_q, d_k, d_v;

  tokens(index time, index dim) : o({1, time, heads, dim}), d_q(o.extent()), d_k(o.extent()), d_v(o.extent()) {
    std::uint64_t seed = 1;
    for (auto* a : {&q, &k, &v, &d_o}) *a = uniform<T, 4>(o.extent(), seed++);
  }
  template <class U>
  explicit tokens(const tokens<U>& other)
      : q(converted<T>(other.q)), k(converted<T>(other.k)), v(converted<T>(other.v)), d_o(converted<T>(other.d_o)), o(q.extent()), d_q(q.extent()),
        d_k(q.extent()), d_v(q.extent()) {}

  weft::shape shape() const { return {.batch = 1, .heads = heads, .key_dim = q.extent(3), .value_dim = q.extent(3), .capacity = q.extent(1)}; }
  weft::inputs_t<weft::attention<T>> inputs() const { return {.q = q, .k = k, .v = v}; }
  template <class Mixer>
  void differentiate(const Mixer& mixer, weft::cpu& cpu, weft::state_t<Mixer>& cache, weft::tape& tape) {
    weft::state_gradient_t<Mixer> none;
    cache.length(0) = 0;
    weft::scan(cpu, mixer, inputs(), cache, {.o = o}, tape);
    weft::vjp(cpu, mixer, inputs(), tape, {.o = d_o}, none, {.q = d_q, .k = d_k, .v = d_v});
  }
};

// How the literal form's output moves along one direction of q, k and v, weighted by the cotangent.
double along(const tokens<double>& in, const std::array<weft::array<double, 4>, 3>& direction, double by) {
  tokens<double> moved(in);
  weft::array<double, 4>* const to[] = {&moved.q, &moved.k, &moved.v};
  for (std::size_t i = 0; i < 3; ++i)
    for (index j = 0; j < in.q.size(); ++j) to[i]->data()[j] += by * direction[i].data()[j];
  const weft::attention<double> mixer;
  auto cache = mixer.state(in.shape());
  weft::literal(mixer, moved.inputs(), cache, {.o = moved.o});
  double sum = 0;
  for (index j = 0; j < moved.o.size(); ++j) sum += moved.o.data()[j] * in.d_o.data()[j];
  return sum;
}

// The gradients in double against the literal form's central difference, those in T against them.
template <class T>
std::string mismatch(weft::cpu& cpu, const point& p) {
  tokens<T> in(check_time, p.dim);
  tokens<double> wide(in);
  weft::tape tape;
  const weft::attention<double> wide_mixer;
  auto wide_cache = wide_mixer.state(wide.shape());
  wide.differentiate(wide_mixer, cpu, wide_cache, tape);
  const std::array direction{uniform<double, 4>(in.q.extent(), 11), uniform<double, 4>(in.q.extent(), 12), uniform<double, 4>(in.q.extent(), 13)};
  const double step = 1e-6, expected = (along(wide, direction, step) - along(wide, direction, -step)) / (2 * step);
  double got = 0;
  const weft::array<double, 4>* const gradients[] = {&wide.d_q, &wide.d_k, &wide.d_v};
  for (std::size_t i = 0; i < 3; ++i)
    for (index j = 0; j < in.q.size(); ++j) got += gradients[i]->data()[j] * direction[i].data()[j];
  if (const double error = relative_error(&got, &expected, 1); error > 1e-6)
    return "the gradients differ from the literal form's central difference by " + std::to_string(error);

  const weft::attention<T> mixer;
  auto cache = mixer.state(in.shape());
  in.differentiate(mixer, cpu, cache, tape);
  const double error = std::max({relative_error(in.d_q.data(), wide.d_q.data(), in.q.size()), relative_error(in.d_k.data(), wide.d_k.data(), in.q.size()),
                                 relative_error(in.d_v.data(), wide.d_v.data(), in.q.size())});
  return error > error_bound<T> ? "the gradients differ from those in double by " + std::to_string(error) + " of the largest value" : "";
}

template <class T>
void run(benchmark::State& s, const point& p) {
  workers w(p.threads);
  if (const std::string wrong = mismatch<T>(w.cpu(), p); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  const weft::attention<T> mixer;
  tokens<T> in(p.time, p.dim);
  auto cache = mixer.state(in.shape());
  weft::tape tape;
  const auto time = static_cast<double>(p.time), pairs = time * (time + 1) / 2;
  measure(s, p, {.tokens = time, .flops = 14 * static_cast<double>(heads * p.dim) * pairs}, [&] { in.differentiate(mixer, w.cpu(), cache, tape); });
}

}  // namespace

void add_attention_gradients() {
  add_vjp<float>("softmax_attention", run<float>);
  add_vjp<weft::bf16>("softmax_attention", run<weft::bf16>);
}

}  // namespace bench
