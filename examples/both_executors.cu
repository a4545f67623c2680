#include "both_executors.hpp"

#include <weft/cuda.hpp>

void attend_on_gpu(const example_mixer& mixer, example_tensors& t, example_mixer::state_type& state) {
  weft::cuda gpu;
  weft::cpu cpu;
  const auto q = weft::copy(gpu, t.q), k = weft::copy(gpu, t.k), v = weft::copy(gpu, t.v);
  const auto x = weft::copy(gpu, t.x), beta = weft::copy(gpu, t.beta);
  auto o = weft::copy(gpu, t.o);
  auto there = weft::copy(gpu, state);
  attend(gpu, mixer, {.q = q, .k = k, .v = v, .x = x, .beta = beta}, there, {.o = o});
  t.o = weft::copy(cpu, o);
  state = weft::copy(cpu, there);
}
