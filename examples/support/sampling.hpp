// The next byte from a model's logits.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace sampling {

struct options {
  double temperature = 0;  // 0: the most likely byte
  double top_p = 1;        // only the most likely bytes that together have this probability
  std::uint64_t seed = 0;
};

// A number in [0, 1) that depends on the seed and the position alone, so that a text goes on the same after a restart.
inline double uniform(std::uint64_t seed, std::uint64_t position) {
  std::uint64_t x = seed ^ (position * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u);
  for (int round = 0; round < 2; ++round) {  // the finaliser of SplitMix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
  }
  return static_cast<double>(x >> 11) * 0x1p-53;
}

// The lowest of equals wins.
inline unsigned char next_byte(std::span<const float> logits, const options& o, std::uint64_t position) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (o.temperature == 0) return static_cast<unsigned char>(best - logits.begin());
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weight;
  double sum = 0;
  for (const std::size_t i : order) sum += weight.emplace_back(std::exp((static_cast<double>(logits[i]) - static_cast<double>(*best)) / o.temperature));
  double kept = 0;
  std::size_t count = 0;
  while (count < weight.size() && (count == 0 || kept < o.top_p * sum)) kept += weight[count++];
  double left = uniform(o.seed, position) * kept;
  std::size_t pick = 0;
  while (pick + 1 < count && left >= weight[pick]) left -= weight[pick++];
  return static_cast<unsigned char>(order[pick]);
}

}  // namespace sampling
