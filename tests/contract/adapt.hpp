// What the policies with inputs of their own ask of random numbers.
#pragma once
#include "random_problem.hpp"

namespace contract {

inline bool whole_numbers(const std::vector<double>& v) {
  return std::all_of(v.begin(), v.end(), [](double x) { return std::isinf(x) || x == std::round(x); });
}

// RWKV-7's kind of low rank: a = -kappa, b = kappa alpha with unit kappa (here other tokens' keys) and alpha in [0, 1].
inline void removal_keys(problem& p, dice& d) {
  const auto& k = p["k"];
  auto& a = p["a"];
  auto& b = p["b"];
  const bool whole = whole_numbers(k);
  const auto width = static_cast<std::size_t>(p.s.key_dim);
  for (std::size_t i = 0; i < k.size(); ++i) {
    const std::size_t mirrored = (k.size() / width - 1 - i / width) * width + i % width;
    a[i] = -k[mirrored];
    b[i] = k[mirrored] * (whole ? static_cast<double>(d.below(2)) : d.uniform(0, 1));
  }
}

// Comba's reader is a weakened key; one that has nothing to do with the key would make the state grow.
inline void weakened_key(problem& p, dice& d) {
  const auto& k = p["k"];
  for (std::size_t i = 0; i < k.size(); ++i) p["p"][i] = whole_numbers(k) ? k[i] : k[i] * d.uniform(0.3, 1);
}

// Mamba-2's A is negative, and its step is not.
inline void negative_rates(problem& p, dice& d, bool raw_step) {
  const double strength = d.any({0.0, 0.1, 1.0, 60.0});
  const bool whole = raw_step && whole_numbers(p["dt"]);
  for (double& x : p["A"]) x = whole ? 0 : -std::abs(x) * strength;
  if (!raw_step) return;
  for (double& x : p["dt"]) x = std::abs(x);
  for (double& x : p["dt_bias"]) x = std::abs(x);
  p.find("z")->null |= whole;
}

// Keys at least 0.01 away from 0: where relu and elu have their kinks, and a unit key turns sharply.
inline void keys_off_zero(problem& p, dice&) {
  for (const char* name : {"q", "k"})
    for (double& x : p[name])
      if (std::abs(x) < 0.01) x = x < 0 ? -0.01 : 0.01;
}

// Keys that score differently: equal ones are chosen by their order, and change places when they move.
inline void unequal_keys(problem& p, dice& d) { fill_normal(p["k"], d); }

}  // namespace contract
