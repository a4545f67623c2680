#include <weft/layer/norm.hpp>
#include <weft/layer/rotary.hpp>
#include <weft/layer/short_conv.hpp>

#include <string>

#include "operators.hpp"
#include "sample.hpp"

namespace bench {
namespace {

template <class T>
std::string mismatch(const T* got, const double* expected, index n) {
  const double error = relative_error(got, expected, n);
  return error > error_bound<T> ? "o differs from the literal form in double by " + std::to_string(error) + " of the largest value" : "";
}

// Convolution over all heads' channels, without a bias and an activation: what every library has.
template <class T>
struct conv_inputs {
  weft::array<T, 3> x;
  weft::array<T, 2> weight;
  conv_inputs(index time, index channels) : x(uniform<T, 3>({1, time, channels}, 1)), weight(uniform<T, 2>({channels, 4}, 2)) {}
};

template <class T>
std::string conv_mismatch(weft::cpu& cpu, const point& p) {
  const index channels = heads * p.dim;
  const conv_inputs<T> in(check_time, channels);
  const auto x = converted<double>(in.x);
  const auto weight = converted<double>(in.weight);
  const weft::short_conv<double> wide;
  auto wide_state = wide.state({.batch = 1, .value_dim = channels});
  weft::array<double, 3> expected(in.x.extent());
  weft::literal(wide, {.x = x.view(), .weight = weight.view()}, wide_state, {.o = expected});

  const weft::short_conv<T> mixer;
  auto state = mixer.state({.batch = 1, .value_dim = channels});
  weft::array<T, 3> o(in.x.extent());
  if (p.verb == verb::scan) weft::scan(cpu, mixer, {.x = in.x.view(), .weight = in.weight.view()}, state, {.o = o});
  else
    for (index t = 0; t < check_time; ++t)
      weft::step(cpu, mixer, {.x = in.x.view().slice(1, t, 1), .weight = in.weight.view()}, state, {.o = o.view().slice(1, t, 1)});
  return mismatch(o.data(), expected.data(), o.size());
}

template <class T>
void run_conv(benchmark::State& s, const point& p) {
  workers w(p.threads);
  if (const std::string wrong = conv_mismatch<T>(w.cpu(), p); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  const index channels = heads * p.dim;
  const conv_inputs<T> in(p.time, channels);
  const weft::short_conv<T> mixer;
  auto state = mixer.state({.batch = 1, .value_dim = channels});
  weft::array<T, 3> o(in.x.extent());
  const auto elements = static_cast<double>(p.time * channels);
  const bool decode = p.verb == verb::step;
  const double bytes = decode ? 2.0 * static_cast<double>(weft::state_bytes(state)) : 2.0 * elements * sizeof(T);
  measure(s, p, {.tokens = static_cast<double>(p.time), .flops = 8 * elements, .bytes = bytes}, [&] {
    if (decode) weft::step(w.cpu(), mixer, {.x = in.x.view(), .weight = in.weight.view()}, state, {.o = o});
    else weft::scan(w.cpu(), mixer, {.x = in.x.view(), .weight = in.weight.view()}, state, {.o = o});
  });
}

// Operators without a state. `call(cpu, x, y, o)` is ours, `literal(x, y, o, b)` writes one row of dim channels in double.
template <class T, class Call, class Literal>
void run_rows(benchmark::State& s, const point& p, int inputs, Call call, Literal literal) {
  workers w(p.threads);
  const auto make = [&](index time, std::uint64_t seed) { return uniform<T, 4>({1, time, heads, p.dim}, seed); };
  {
    const auto x = make(check_time, 1), y = make(check_time, 2);
    weft::array<T, 4> o(x.extent());
    call(w.cpu(), x, y, o);
    const auto wide_x = converted<double>(x), wide_y = converted<double>(y);
    weft::array<double, 4> expected(x.extent());
    for (index t = 0; t < check_time; ++t)
      for (index h = 0; h < heads; ++h) literal(&wide_x.view()(0, t, h, 0), &wide_y.view()(0, t, h, 0), &expected(0, t, h, 0), t);
    if (const std::string wrong = mismatch(o.data(), expected.data(), o.size()); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  }
  const auto x = make(p.time, 1), y = make(p.time, 2);
  weft::array<T, 4> o(x.extent());
  const double bytes = (inputs + 1) * static_cast<double>(x.bytes());
  measure(s, p, {.tokens = static_cast<double>(p.time), .bytes = bytes}, [&] { call(w.cpu(), x, y, o); });
}

template <class T>
void run_rms_norm_gated(benchmark::State& s, const point& p) {
  const auto weight = uniform<T, 1>({p.dim}, 3, 0.5, 1.5);
  run_rows<T>(
      s, p, 2, [&](weft::cpu& cpu, const auto& x, const auto& z, auto& o) { weft::rms_norm_gated<T>(cpu, x, z, weight, o); },
      [&](const double* x, const double* z, double* o, index) {
        double sum = 0;
        for (index i = 0; i < p.dim; ++i) sum += x[i] * x[i];
        const double scale = 1 / std::sqrt(sum / static_cast<double>(p.dim) + 1e-5);
        for (index i = 0; i < p.dim; ++i) o[i] = x[i] * scale * static_cast<double>(weight(i)) * z[i] / (1 + std::exp(-z[i]));
      });
}

template <class T>
void run_l2norm(benchmark::State& s, const point& p) {
  run_rows<T>(
      s, p, 1, [](weft::cpu& cpu, const auto& x, const auto&, auto& o) { weft::l2_norm<T>(cpu, x, o); },
      [&](const double* x, const double*, double* o, index) {
        double sum = 0;
        for (index i = 0; i < p.dim; ++i) sum += x[i] * x[i];
        for (index i = 0; i < p.dim; ++i) o[i] = x[i] / std::sqrt(sum + 1e-6);
      });
}

template <class T>
void run_rotary(benchmark::State& s, const point& p) {
  using real = weft::accumulate_t<T>;
  const index most = std::max(p.time, check_time), half = p.dim / 2;
  weft::array<std::int64_t, 2> positions({1, most});
  for (index t = 0; t < most; ++t) positions(0, t) = t;
  const auto frequencies = weft::rotary_frequencies(p.dim, 10000.0);
  weft::array<real, 3> cos({1, most, half}), sin({1, most, half});
  weft::cpu serial;
  weft::rotary_angles<real>(serial, positions, frequencies, cos.view(), sin.view());
  run_rows<T>(
      s, p, 1,
      [&](weft::cpu& cpu, const auto& x, const auto&, auto& o) {
        const index time = x.extent(1);
        weft::rotary<T>(cpu, x, std::as_const(cos).view().slice(1, 0, time), std::as_const(sin).view().slice(1, 0, time), o);
      },
      [&](const double* x, const double*, double* o, index t) {
        for (index i = 0; i < half; ++i) {
          const double angle = static_cast<double>(t) * frequencies[static_cast<std::size_t>(i)];
          o[i] = x[i] * std::cos(angle) - x[half + i] * std::sin(angle);
          o[half + i] = x[half + i] * std::cos(angle) + x[i] * std::sin(angle);
        }
      });
}

template <class T>
void add_storage() {
  add<T>("short_conv", {1}, run_conv<T>);
  add<T>("rms_norm_gated", {}, run_rms_norm_gated<T>);
  add<T>("l2norm", {}, run_l2norm<T>);
  add<T>("rotary", {}, run_rotary<T>);
}

}  // namespace

void add_layer_operations() {
  add_storage<float>();
  add_storage<weft::bf16>();
}

}  // namespace bench
