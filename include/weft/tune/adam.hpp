// Adam (Kingma and Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
//
//   m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,  p <- p - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p)
#pragma once
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "../backend/cpu/elementwise.hpp"
#include "../io/safetensors_writer.hpp"
#include "trained.hpp"

namespace weft {
inline namespace v1 {

struct adam_options {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double decay = 0;  // decoupled weight decay, of what decays
  double l2 = 0;     // added to the gradient as l2 p, of everything
};

// The rate climbs over the warm-up, then falls by a cosine to `last` of its peak.
struct cosine_schedule {
  double peak = 1e-3;
  index warm_up = 0, steps = 1;
  double last = 0.1;

  // Of step 0, 1, ...
  double operator()(index step) const {
    if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up);
    const double done = steps > warm_up ? static_cast<double>(std::min(step, steps) - warm_up) / static_cast<double>(steps - warm_up) : 1.0;
    return peak * (last + (1.0 - last) * 0.5 * (1.0 + std::cos(3.14159265358979323846 * done)));
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

// Moments by the parameters' names and order; a value: copied, saved, restored.
template <class R>
class adam {
 public:
  explicit adam(adam_options options = {}) : options_(options) {
    require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1, errc::value, "beta1, beta2: expected numbers in [0, 1), got ",
            options.beta1, ", ", options.beta2);
    require(options.eps > 0, errc::value, "eps: expected a positive number, got ", options.eps);
  }

  index steps() const { return steps_; }

  // Throws errc::value, and changes nothing, where the list is not that of the steps before.
  void step(cpu& executor, std::span<const trained<R>> list, double rate) {
    if (moments_.empty())
      for (const auto& p : list) moments_.push_back({p.name, array<R, 2>({2, static_cast<index>(p.value.size())})});
    require(moments_.size() == list.size(), errc::value, "step: expected ", moments_.size(), " parameters as before, got ", list.size());
    for (std::size_t i = 0; i < list.size(); ++i)
      require(moments_[i].name == list[i].name && moments_[i].both.extent(1) == static_cast<index>(list[i].value.size()), errc::value, "step: expected parameter ",
              moments_[i].name, " of ", moments_[i].both.extent(1), " numbers as before, got ", list[i].name, " of ", list[i].value.size());
    ++steps_;
    const double t = static_cast<double>(steps_);
    const simd<R> b1(static_cast<R>(options_.beta1)), b2(static_cast<R>(options_.beta2)), c1(static_cast<R>(1 - options_.beta1)), c2(static_cast<R>(1 - options_.beta2)),
        eps(static_cast<R>(options_.eps)), l2(static_cast<R>(options_.l2)), size(static_cast<R>(rate / (1 - std::pow(options_.beta1, t)))),
        correct(static_cast<R>(1 / (1 - std::pow(options_.beta2, t))));
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto& p = list[i];
      const simd<R> keep(static_cast<R>(1 - (p.decays ? rate * options_.decay : 0)));
      R* const m = moments_[i].both.data();
      R* const v = m + moments_[i].both.extent(1);
      constexpr index block = 1 << 14;
      const auto count = static_cast<index>(p.value.size());
      executor.parallel_for((count + block - 1) / block, [&](index task, int) {
        const index first = task * block;
        for_lanes<R>(std::min(block, count - first), [&](index at, auto lane) {
          const index c = first + at;
          const simd<R> x = get(p.value.data() + c, lane), g = fma(l2, x, get(p.gradient.data() + c, lane));
          const simd<R> m_new = fma(b1, get(m + c, lane), c1 * g), v_new = fma(b2, get(v + c, lane), c2 * g * g);
          put(m + c, m_new, lane);
          put(v + c, v_new, lane);
          put(p.value.data() + c, keep * x - size * m_new / (weft::sqrt(v_new * correct) + eps), lane);
        });
      });
    }
  }

  // As "prefix.NAME" [2, count] and "prefix.steps". The writer points into this object.
  void save_parts(tensor_writer& writer, const std::string& prefix = "adam") const {
    for (const auto& m : moments_) writer.add(io::join(prefix, m.name), m.both);
    writer.add(io::join(prefix, "steps"), dtype::i64, {1}, reinterpret_cast<const std::byte*>(&steps_));
  }
  // The moments of these parameters. Throws errc::missing, shape or unsupported, and changes nothing.
  void restore_parts(std::span<const trained<R>> list, const tensor_file& file, const std::string& prefix = "adam") {
    const tensor& steps = file.at(io::join(prefix, "steps"));
    require(steps.type == dtype::i64 && steps.count() == 1, errc::shape, file.name(), ": tensor ", io::quoted(steps.name), ": expected one I64, got ",
            dtype_name(steps.type), " ", check::list(steps.shape));
    std::vector<moments> restored;
    for (const auto& p : list) {
      const tensor& t = file.at(io::join(prefix, p.name));
      const std::vector<index> expected{2, static_cast<index>(p.value.size())};
      require(t.type == dtype_of<R>, errc::unsupported, file.name(), ": tensor ", io::quoted(t.name), ": expected ", dtype_name(dtype_of<R>), ", got ", dtype_name(t.type));
      require(t.shape == expected, errc::shape, file.name(), ": tensor ", io::quoted(t.name), ": expected ", check::list(expected), ", got ", check::list(t.shape));
      restored.push_back({p.name, to_array<R, 2>(t)});
    }
    std::memcpy(&steps_, steps.data, sizeof steps_);
    moments_ = std::move(restored);
  }

 private:
  struct moments {
    std::string name;
    array<R, 2> both;  // the mean of gradients, that of their squares
  };
  adam_options options_;
  std::vector<moments> moments_;
  std::int64_t steps_ = 0;
};

}  // namespace WEFT_ISA
}  // namespace weft
