#include "layer_calls.hpp"

#include <cmath>
#include <random>

#include <weft/cuda.hpp>

#include "../difference.hpp"

namespace contract {
namespace {

using weft::index, weft::activation;

class bench {
 public:
  weft::cuda gpu;
  weft::cpu host;
  std::vector<std::string> wrong;

  template <class T, std::size_t Rank>
  weft::array<T, static_cast<int>(Rank)> numbers(const std::array<index, Rank>& extents) {
    std::normal_distribution<float> normal;
    weft::array<T, static_cast<int>(Rank)> a(extents);
    for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<T>(normal(random_));
    return a;
  }
  // Within so many epsilons of the largest number, and of the storage type's rounding.
  template <class T, int Rank>
  void close(const weft::device_array<T, Rank>& got, const weft::array<double, Rank>& expected, const std::string& name) {
    const auto there = weft::copy(host, got);
    const double error = test::largest_difference(there, expected);
    const double epsilon = std::is_same_v<T, double> ? 1e-14 : std::is_same_v<T, float> ? 2e-6 : std::is_same_v<T, weft::fp16> ? 1e-3 : 8e-3;
    if (!(error <= epsilon * test::largest(expected))) wrong.push_back(name + ": " + std::to_string(error));
  }

 private:
  std::mt19937 random_{5};
};

template <class T>
double number(T x) {
  return static_cast<double>(static_cast<weft::accumulate_t<T>>(x));
}

double act(activation a, double x) { return a == activation::none ? x : (a == activation::silu ? x : 1) / (1 + std::exp(-x)); }

// Pieces, one of them a step, of a plain or a packed call; o in the storage type or in the accumulating one.
template <class T>
void convolutions(bench& b, const std::string& type) {
  for (const index taps : {1, 4, 7})
    for (const bool packed : {false, true}) {
      const weft::short_conv<T> mixer{.taps = taps, .activation = packed ? activation::silu : activation::none};
      const std::vector<index> cu = packed ? std::vector<index>{0, 2, 2, 21} : std::vector<index>{};
      const index rows = packed ? 1 : 2, sequences = packed ? 3 : 2, channels = 150;
      const auto weight = b.numbers<T, 2>({channels, taps});
      const auto bias = b.numbers<T, 1>({channels});
      auto state = mixer.state({.batch = sequences, .value_dim = channels});
      state.inputs = b.numbers<T, 3>({sequences, taps - 1, channels});
      auto there = weft::copy(b.gpu, state);
      const auto weight_there = weft::copy(b.gpu, weight);
      const auto bias_there = weft::copy(b.gpu, bias);
      for (const index time : packed ? std::vector<index>{21} : std::vector<index>{2, 21, 1}) {
        const auto x = b.numbers<T, 3>({rows, time, channels});
        const auto x_there = weft::copy(b.gpu, x);
        weft::array<weft::accumulate_t<T>, 3> o({rows, time, channels});
        weft::device_array<T, 3> o_there(b.gpu.stream(), {rows, time, channels});
        weft::literal(mixer, {x, weight, bias}, state, {o}, cu);
        if (time == 1) weft::step(b.gpu, mixer, {x_there, weight_there, bias_there}, there, {o_there});
        else weft::scan(b.gpu, mixer, {x_there, weight_there, bias_there}, there, {o_there}, cu);
        weft::array<double, 3> expected({rows, time, channels});
        for (index i = 0; i < o.size(); ++i) expected.data()[i] = static_cast<double>(o.data()[i]);
        const std::string name = "short_conv " + type + " of " + std::to_string(taps) + (packed ? " packed " : " ") + std::to_string(time);
        b.close(o_there, expected, name);
        weft::array<double, 3> kept(state.inputs.extent());
        for (index i = 0; i < kept.size(); ++i) kept.data()[i] = number(state.inputs.data()[i]);
        b.close(there.inputs, kept, name + " state");
      }
    }
}

template <class T>
void norms(bench& b, const std::string& type) {
  const std::array<index, 4> extents{2, 3, 5, 96};
  const auto x = b.numbers<T, 4>(extents), z = b.numbers<T, 4>(extents);
  const auto weight = b.numbers<T, 1>(std::array<index, 1>{96});
  const auto x_there = weft::copy(b.gpu, x), z_there = weft::copy(b.gpu, z);
  const auto weight_there = weft::copy(b.gpu, weight);
  for (const index size : {0, 32})
    for (const activation gate : {activation::none, activation::silu, activation::sigmoid})
      for (const bool last : {false, true}) {
        weft::array<double, 4> expected(extents);
        const index group = size == 0 ? 96 : size;
        for (index first = 0; first < x.size(); first += group) {
          double sum = 0;
          const auto gate_of = [&](index i) { return gate == activation::none ? 1.0 : act(gate, number(z.data()[i])); };
          const auto before = [&](index i) { return number(x.data()[i]) * (last ? 1.0 : gate_of(i)); };
          for (index i = first; i < first + group; ++i) sum += before(i) * before(i);
          for (index i = first; i < first + group; ++i)
            expected.data()[i] = before(i) / std::sqrt(sum / static_cast<double>(group) + 1e-5) * (1 + number(weight.data()[i % 96])) * (last ? gate_of(i) : 1.0);
        }
        weft::device_array<T, 4> o(b.gpu.stream(), extents);
        weft::rms_norm_gated<T>(b.gpu, x_there, z_there, weight_there, o, {.gate = gate, .norm_before_gate = last, .group_size = size, .unit_offset = true});
        b.close(o, expected, "rms_norm_gated " + type + " " + std::to_string(size) + " " + std::to_string(static_cast<int>(gate)) + std::to_string(last));
      }
  weft::array<double, 4> expected(extents);
  for (index first = 0; first < x.size(); first += 96) {
    double sum = 0;
    for (index i = first; i < first + 96; ++i) sum += number(x.data()[i]) * number(x.data()[i]);
    for (index i = first; i < first + 96; ++i) expected.data()[i] = number(x.data()[i]) / std::sqrt(sum + 1e-6);
  }
  auto o = x_there;
  weft::l2_norm<T>(b.gpu, o, o);
  b.close(o, expected, "l2_norm " + type);
}

template <class T>
void rotations(bench& b, const std::string& type) {
  using R = weft::accumulate_t<T>;
  const std::array<index, 4> extents{2, 7, 3, 22};
  const auto x = b.numbers<T, 4>(extents);
  const auto x_there = weft::copy(b.gpu, x);
  const auto frequencies = weft::rotary_frequencies(16, 10000.0);
  weft::array<std::int64_t, 2> positions({2, 7});
  for (index i = 0; i < positions.size(); ++i) positions.data()[i] = 1000 * (i % 3) + i;
  const auto positions_there = weft::copy(b.gpu, positions);
  weft::device_array<R, 3> cos(b.gpu.stream(), {2, 7, 8}), sin = cos;
  weft::rotary_angles<R>(b.gpu, positions_there, frequencies, cos, sin, 1.25);
  for (const bool interleaved : {false, true}) {
    weft::array<double, 4> expected(extents);
    for (index row = 0; row < x.size() / 22; ++row) {
      const T* const from = x.data() + row * 22;
      double* const to = expected.data() + row * 22;
      for (index i = 16; i < 22; ++i) to[i] = number(from[i]);
      for (index i = 0; i < 8; ++i) {
        const double angle = static_cast<double>(positions.data()[row / 3]) * frequencies[static_cast<std::size_t>(i)], c = 1.25 * std::cos(angle), s = 1.25 * std::sin(angle);
        const index p = interleaved ? 2 * i : i, q = interleaved ? 2 * i + 1 : i + 8;
        to[p] = number(from[p]) * c - number(from[q]) * s;
        to[q] = number(from[q]) * c + number(from[p]) * s;
      }
    }
    auto o = x_there;
    weft::rotary<T>(b.gpu, o, cos, sin, o, interleaved);
    b.close(o, expected, "rotary " + type);
  }
}

template <class T>
void all(bench& b, const std::string& type) {
  convolutions<T>(b, type);
  norms<T>(b, type);
  rotations<T>(b, type);
}

}  // namespace

std::vector<std::string> wrong_layer_calls() {
  bench b;
  all<float>(b, "float");
  all<double>(b, "double");
  all<weft::bf16>(b, "bf16");
  all<weft::fp16>(b, "fp16");
  return b.wrong;
}

}  // namespace contract
