// What an optimiser works on: the parameters that are trained and their gradients, by name.
#pragma once
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "../layer/layer_vjp.hpp"

namespace weft {
inline namespace v1 {

template <class R>
struct trained {
  std::string name;
  std::span<R> value, gradient;
  bool decays = true;  // matrices do; vectors (norms, biases, gates) do not
};

}  // namespace v1

inline namespace WEFT_ISA {

// Adds every parameter of a layer, or of any value made of parts, that has a gradient.
template <class R, class L, class D>
void add_trained(std::vector<trained<R>>& list, L& layer, D& gradients, const std::string& prefix = {}) {
  for_each_parameter(
      layer, gradients,
      [&](const std::string& name, auto& a, auto& d) {
        const auto count = static_cast<std::size_t>(a.size());
        list.push_back({name, {a.data(), count}, {d.data(), count}, std::remove_cvref_t<decltype(a)>::rank >= 2});
      },
      prefix);
}

template <class R>
void clear_gradients(std::span<const trained<R>> list) {
  for (const auto& p : list) std::fill(p.gradient.begin(), p.gradient.end(), R(0));
}

// Throws errc::value naming the first tensor whose gradient has a NaN or an infinity, and the step.
template <class R>
void check_gradients(std::span<const trained<R>> list, index step) {
  for (const auto& p : list)
    for (std::size_t i = 0; i < p.gradient.size(); ++i)
      require(std::isfinite(p.gradient[i]), errc::value, "gradient of ", p.name, ": expected finite numbers, got ", p.gradient[i], " at element ", i, " in step ", step);
}

// The Euclidean norm of all gradients together; where it is larger than `most`, they are scaled down to it.
template <class R>
double clip_gradients(std::span<const trained<R>> list, double most) {
  require(most > 0, errc::value, "clip: expected a positive norm, got ", most);
  double sum = 0;
  for (const auto& p : list)
    for (const R g : p.gradient) sum += static_cast<double>(g) * static_cast<double>(g);
  const double norm = std::sqrt(sum);
  if (norm > most)
    for (const auto& p : list)
      for (R& g : p.gradient) g *= static_cast<R>(most / norm);
  return norm;
}

}  // namespace WEFT_ISA
}  // namespace weft
