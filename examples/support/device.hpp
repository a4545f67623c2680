// What a program asks of a GPU. nvcc compiles the answers (cuda/*.cu), and each is found by the type of its request; a program that
// was compiled without nvcc has none.
#pragma once
#include <weft/core/output.hpp>
#include <weft/layer/norm_check.hpp>

#include <span>
#include <typeindex>
#include <vector>

namespace ops {

using weft::index;

// A verb of a mixer. All is memory of the host, as it is on return.
template <class Mixer>
struct mixer_request {
  const Mixer& mixer;
  typename Mixer::inputs in;
  typename Mixer::state_type& state;
  typename Mixer::outputs out;
  std::span<const index> cu{};
  bool step = false;
};

template <class T>
struct rms_norm_request {
  weft::view<const T, 4> x, z;
  weft::view<const T, 1> weight;
  weft::output<T, 4> o;
  weft::rms_norm_options options;
};

template <class T>
struct l2_norm_request {
  weft::view<const T, 4> x;
  weft::output<T, 4> o;
  double eps;
};

// cos and sin [1, T, n] are results too.
template <class T>
struct rotary_request {
  weft::view<const T, 4> x;
  weft::view<const std::int64_t, 2> positions;
  std::span<const double> frequencies;
  weft::view<weft::accumulate_t<T>, 3> cos, sin;
  weft::output<T, 4> o;
  bool interleaved;
};

struct device_answer {
  std::type_index request;
  void (*run)(const void* request);
};

// All that this program has; none where it was compiled without nvcc.
const std::vector<device_answer>& device_answers();

// Throws no_meaning where this program has nothing for a GPU, or there is none.
void require_device();

// Throws no_meaning where this program has no kernels for a request of this type.
void ask_device(std::type_index type, const void* request);

}  // namespace ops
