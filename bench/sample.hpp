// Reproducible random numbers, and the inputs of any recurrence policy made from its roles and names.
#pragma once
#include <weft/recurrence/recurrence.hpp>

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "measure.hpp"

namespace bench {

// splitmix64: quick enough that making inputs does not outlast measuring.
class random {
 public:
  explicit random(std::uint64_t seed) : state_(seed) {}
  double uniform(double low, double high) {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return low + (high - low) * static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_;
};

template <class T>
T stored(double x) {
  return static_cast<T>(static_cast<weft::accumulate_t<T>>(x));
}

template <class T, int Rank>
weft::array<T, Rank> uniform(std::array<index, static_cast<std::size_t>(Rank)> extent, std::uint64_t seed, double low = -1.5, double high = 1.5) {
  weft::array<T, Rank> a(extent);
  random r(seed);
  for (index i = 0; i < a.size(); ++i) a.data()[i] = stored<T>(r.uniform(low, high));
  return a;
}

template <class To, class From, int Rank>
weft::array<To, Rank> converted(const weft::array<From, Rank>& from) {
  weft::array<To, Rank> to(from.extent());
  for (index i = 0; i < from.size(); ++i) to.data()[i] = static_cast<To>(from.data()[i]);
  return to;
}

// The largest |got - expected| over the largest |expected|; never NaN, and infinite where either of the two is not finite.
template <class Got, class Expected>
double relative_error(const Got* got, const Expected* expected, index n) {
  double worst = 0, largest = 1e-300;
  for (index i = 0; i < n; ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    worst = d >= 0 ? std::max(worst, d) : INFINITY;
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return std::isfinite(worst) ? worst / largest : INFINITY;
}

// Float: rounding of sums of some hundred terms. 16 bits: the rounding of the output itself, 2^-9 of the largest for bf16.
template <class T>
inline constexpr double error_bound = std::is_same_v<T, float> ? 2e-5 : 4e-3;

// The inputs of a policy and the memory that its views look at.
template <class Policy, class T>
struct sample {
  using inputs = weft::inputs_of<Policy, T>;
  inputs views;
  std::vector<weft::aligned_bytes> memory;

  template <class View>
  auto* own(View& v, const std::array<index, View::rank>& extent) {
    using element = std::remove_const_t<typename View::element>;
    index n = 1;
    for (const index e : extent) n *= e;
    memory.emplace_back().reserve(static_cast<std::size_t>(n) * sizeof(element));
    auto* data = reinterpret_cast<element*>(memory.back().data());
    v = weft::view<const element, View::rank>(data, extent);
    return data;
  }
};

// Range of a gate by its name: log-decays below 0, betas and erase gates in (0, 1), Mamba-2's own parameters.
struct range {
  double low, high;
};
inline range gate_range(std::string_view name) {
  if (name == "g") return {-0.3, 0.0};
  if (name == "dt") return {-4.0, -1.0};
  if (name == "A") return {-1.0, -0.5};
  return {0.0, 1.0};
}

// Keys have unit length. Optional inputs are left out, but for a decay.
template <class Policy, class T>
sample<Policy, T> make_sample(index time, index dim, int micro) {
  sample<Policy, T> s;
  random r(7);
  weft::for_each_member(s.views, [&](auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    using element = std::remove_const_t<typename view_type::element>;
    constexpr weft::role role = view_type::role;
    const weft::input_name name = weft::name_of<Policy>(i);
    if (name.optional && name.text != "g") return;
    std::array<index, view_type::rank> extent{};
    std::size_t d = 0;
    if constexpr (role.time) {
      extent[d++] = 1;
      extent[d++] = role.micro ? time * micro : time;
    }
    // Mamba-2's B and C are of one group, as its models have few.
    extent[d++] = role.heads == weft::per_head::key && (name.text == "B" || name.text == "C") ? 1 : heads;
    if constexpr (role.width != weft::width::one) extent[d] = dim;
    element* const data = s.own(v, extent);
    const index n = v.size();
    const range of = role.wide ? gate_range(name.text) : range{-1.5, 1.5};
    constexpr bool unit = role.width == weft::width::key_dim && !role.wide;
    std::vector<double> row(static_cast<std::size_t>(unit ? dim : 1));
    for (index at = 0; at < n; at += static_cast<index>(row.size())) {
      double sum = 0;
      for (double& x : row) {
        x = r.uniform(of.low, of.high);
        sum += x * x;
      }
      for (std::size_t j = 0; j < row.size(); ++j) data[at + static_cast<index>(j)] = stored<element>(unit ? row[j] / std::sqrt(sum) : row[j]);
    }
  });
  // The low-rank systems turn towards the vector they read: b = -a times a rate, or their states would grow.
  if constexpr (requires { s.views.a; s.views.b; }) {
    auto* b = const_cast<T*>(s.views.b.data);
    for (index j = 0; j < s.views.b.size(); ++j) b[j] = stored<T>(-static_cast<double>(s.views.a.data[j]) * r.uniform(0.0, 1.0));
  }
  return s;
}

// The same numbers in double.
template <class Policy, class T>
sample<Policy, double> widened(const sample<Policy, T>& from) {
  sample<Policy, double> to;
  auto narrow = weft::tie_members(from.views);
  weft::for_each_member(to.views, [&](auto& v, auto i) {
    const auto& source = std::get<i>(narrow);
    if (source.null()) return;
    double* const data = to.own(v, source.extent);
    for (index j = 0; j < source.size(); ++j) data[j] = static_cast<double>(source.data[j]);
  });
  return to;
}

// Token t of a sample, as a step takes it.
template <class Inputs>
Inputs token(Inputs in, index t, index micro) {
  weft::for_each_member(in, [&](auto& v, auto) {
    constexpr weft::role role = std::remove_cvref_t<decltype(v)>::role;
    const index rows = role.micro ? micro : 1;
    if constexpr (role.time)
      if (!v.null()) v = v.slice(1, t * rows, rows);
  });
  return in;
}

}  // namespace bench
