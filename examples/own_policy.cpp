// A recurrence that the library does not have, in ten lines:
//
//   S <- a S + beta k (v - (a S)^T k)^T,  a = sigmoid(x),  o = S^T q / sqrt(K)
//
// The struct leaky_delta is all there is to write. From it come scan, step, splits, packed sequences, saving and restoring, and
// gradients. The program holds the scan and a gradient against a loop written by hand, and times both. Exit code 2: they differ.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <random>
#include <vector>

#include <weft/weft.hpp>

namespace {

struct leaky_delta {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> x, beta;
  };
  static constexpr weft::axes axes{.decay = weft::decay::per_token, .erase = weft::erase::tied};
  template <class R>
  WEFT_HD static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = weft::log_sigmoid(in.x)}; }
  template <class R>
  WEFT_HD static R write(const auto& in) { return in.beta * in.v; }
};

constexpr weft::index T = 2048, H = 4, K = 64, V = 64;

struct sequence {
  weft::array<float, 4> q{{1, T, H, K}}, k = q, v{{1, T, H, V}};
  weft::array<float, 3> x{{1, T, H}}, beta = x;

  sequence() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto fill = [&](auto& a, float scale, float shift) {
      for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = scale * normal(random) + shift;
    };
    fill(q, 1, 0), fill(k, 1 / std::sqrt(static_cast<float>(K)), 0), fill(v, 1, 0), fill(x, 1, 3), fill(beta, 0.1f, 0.5f);
  }
};

// What its author would write without a library, in double; with all x moved.
void by_hand(const sequence& s, weft::array<double, 4>& o, double moved = 0) {
  std::vector<double> S(K * V), read(V), y(V);
  const auto number = [](float f) { return static_cast<double>(f); };
  for (weft::index h = 0; h < H; ++h) {
    std::fill(S.begin(), S.end(), 0.0);
    for (weft::index t = 0; t < T; ++t) {
      const double a = 1 / (1 + std::exp(-number(s.x(0, t, h)) - moved)), beta = number(s.beta(0, t, h));
      std::fill(read.begin(), read.end(), 0.0);
      std::fill(y.begin(), y.end(), 0.0);
      for (std::size_t i = 0; i < K; ++i)
        for (std::size_t j = 0; j < V; ++j) read[j] += (S[i * V + j] *= a) * number(s.k(0, t, h, i));
      for (std::size_t i = 0; i < K; ++i)
        for (std::size_t j = 0; j < V; ++j) {
          S[i * V + j] += beta * number(s.k(0, t, h, i)) * (number(s.v(0, t, h, j)) - read[j]);
          y[j] += S[i * V + j] * number(s.q(0, t, h, i));
        }
      for (std::size_t j = 0; j < V; ++j) o(0, t, h, j) = y[j] / std::sqrt(static_cast<double>(K));
    }
  }
}

// The largest difference; a NaN, which std::max would drop, makes it infinite.
template <class Expected>
double largest_difference(const weft::array<float, 4>& a, const Expected& b) {
  double largest = 0;
  for (weft::index i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    largest = d >= 0 ? std::max(largest, d) : INFINITY;
  }
  return largest;
}

template <class F>
double seconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int program() {
  const sequence s;
  const weft::recurrence<leaky_delta, float> mixer;
  const decltype(mixer)::inputs in{.q = s.q, .k = s.k, .v = s.v, .x = s.x, .beta = s.beta};
  const weft::shape shape{.batch = 1, .heads = H, .key_dim = K, .value_dim = V};
  weft::validate(mixer, in);
  weft::cpu cpu;
  weft::array<float, 4> o({1, T, H, V});
  weft::array<double, 4> expected({1, T, H, V});

  auto state = mixer.state(shape);
  weft::scan(cpu, mixer, in, state, {.o = o});  // the first call makes the executor's workspace
  state = mixer.state(shape);
  const double scan = seconds([&] { weft::scan(cpu, mixer, in, state, {.o = o}); });
  const double loop = seconds([&] { by_hand(s, expected); });
  double top = 0;
  for (weft::index i = 0; i < expected.size(); ++i) top = std::max(top, std::abs(expected.data()[i]));
  const double error = largest_difference(o, expected) / top;
  std::printf("scan against the loop by hand: largest error %.1e of the largest output\n", error);
  std::printf("tokens a second: %.0f scanned, %.0f by hand\n", T / scan, T / loop);

  // Half of the sequence, a file, and the other half token by token.
  const weft::index half = 1000;
  const auto path = std::filesystem::temp_directory_path() / "weft-own-policy.safetensors";
  auto first = mixer.state(shape);
  weft::array<float, 4> resumed({1, T, H, V});
  const auto part = [&](weft::index from, weft::index count) {
    decltype(mixer)::inputs p = in;
    weft::for_each_member(p, [&](auto& view, auto) { view = view.slice(1, from, count); });
    return p;
  };
  weft::scan(cpu, mixer, part(0, half), first, {.o = resumed.view().slice(1, 0, half)});
  weft::save(first, path);
  auto second = weft::restore(mixer, path);
  std::filesystem::remove(path);
  for (weft::index t = half; t < T; ++t) weft::step(cpu, mixer, part(t, 1), second, {.o = resumed.view().slice(1, t, 1)});
  const double difference = largest_difference(o, resumed) / top;
  std::printf("half scanned, saved, restored, half stepped: largest difference %.1e\n", difference);

  // The gradient of <v, o> with respect to all x, and what the loop does where all x move.
  weft::tape tape;
  weft::array<float, 4> d_q({1, T, H, K}), d_k = d_q, d_v({1, T, H, V});
  weft::array<float, 3> d_x({1, T, H}), d_beta = d_x;
  const auto both_ways = [&] {
    state = mixer.state(shape);
    weft::scan(cpu, mixer, in, state, {.o = o}, tape);
    auto d_state = weft::zero_state_gradient(mixer, state);
    weft::vjp(cpu, mixer, in, tape, {.o = s.v}, d_state, {.q = d_q, .k = d_k, .v = d_v, .x = d_x, .beta = d_beta});
  };
  both_ways();  // the tape's memory
  const double trained = seconds(both_ways);
  const double step = 1e-4;
  weft::array<double, 4> up({1, T, H, V}), down = up;
  by_hand(s, up, step), by_hand(s, down, -step);
  double slope = 0, gradient = 0, size = 0;
  for (weft::index i = 0; i < up.size(); ++i) slope += static_cast<double>(s.v.data()[i]) * (up.data()[i] - down.data()[i]) / (2 * step);
  for (weft::index i = 0; i < d_x.size(); ++i) gradient += static_cast<double>(d_x.data()[i]), size += static_cast<double>(std::abs(d_x.data()[i]));
  const double gradient_error = std::abs(slope - gradient) / size;
  std::printf("gradient of x against the loop with x moved: %.1e of its size; %.0f tokens a second, scan and back\n", gradient_error, T / trained);
  // Scans: 16 units of float's rounding. The difference quotient is wrong by the square of its step. No NaN is within a bound.
  return error <= 16 * 0x1p-23 && difference <= 16 * 0x1p-23 && gradient_error <= 1e-6 ? 0 : 2;
}

}  // namespace

int main() {
  try {
    return program();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
