// The same call on the CPU and on a GPU, with a policy that the library does not know. Built where nvcc is.
#include "both_executors.hpp"

#include <weft/weft.hpp>

#include <cmath>
#include <cstdio>
#include <random>

namespace {

template <class Array>
void fill(Array& a, std::mt19937& random, float low, float high) {
  std::uniform_real_distribution<float> number(low, high);
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = typename Array::element(number(random));
}

// RMS of the difference over RMS.
template <class Array>
double difference(const Array& a, const Array& b) {
  double wrong = 0, right = 0;
  for (weft::index i = 0; i < a.size(); ++i) {
    const double x = static_cast<float>(a.data()[i]), y = static_cast<float>(b.data()[i]);
    wrong += (x - y) * (x - y), right += y * y;
  }
  return std::sqrt(wrong / right);
}

}  // namespace

int main() try {
  constexpr weft::index batch = 2, time = 1000, heads = 4, dim = 128;
  example_tensors t;
  for (auto* a : {&t.q, &t.k, &t.v, &t.o}) *a = weft::array<weft::bf16, 4>({batch, time, heads, dim});
  t.x = t.beta = weft::array<float, 3>({batch, time, heads});
  std::mt19937 random(1);
  fill(t.q, random, -1, 1), fill(t.k, random, -0.15f, 0.15f), fill(t.v, random, -1, 1), fill(t.x, random, 2, 6), fill(t.beta, random, 0, 1);

  const example_mixer mixer;
  auto state = mixer.state({.batch = batch, .heads = heads, .key_dim = dim, .value_dim = dim});
  const auto empty = state;
  weft::cpu cpu;
  attend(cpu, mixer, {.q = t.q, .k = t.k, .v = t.v, .x = t.x, .beta = t.beta}, state, {.o = t.o});
  const auto o = t.o;
  const auto last = state;

  state = empty;
  attend_on_gpu(mixer, t, state);
  std::printf("GPU against CPU: o differs by %.1e, the state by %.1e (RMS over RMS)\n", difference(t.o, o), difference(state.matrix, last.matrix));
  return 0;
} catch (const weft::error& e) {
  std::fprintf(stderr, "both_executors: %s\n", e.what());
  return e.code() == weft::errc::device ? 3 : 1;
}
