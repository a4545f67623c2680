// Random calls on a mixer: sizes, and numbers that make every part of it work.
#pragma once
#include <algorithm>
#include <limits>
#include <random>
#include <string_view>

#include "tensor.hpp"

namespace contract {

// What a dimension of a tensor counts.
enum class axis { batch, time, key_head, value_head, key_dim, value_dim, taps };

struct input_info {
  std::string_view name;
  bool optional = false;
  bool micro = false;  // time counts micro-steps
  element type = element::f32;
  std::vector<axis> axes;

  bool has(axis a) const { return std::find(axes.begin(), axes.end(), a) != axes.end(); }
};

struct sizes {
  index batch = 1, time = 1, heads = 1, group = 1, key_dim = 8, value_dim = 8, taps = 4, micro = 1, capacity = 0;
  std::vector<index> cu;  // ragged, where not empty

  index sequences() const { return cu.empty() ? batch : static_cast<index>(cu.size()) - 1; }
  index extent(axis a, bool micro_rows = false) const {
    switch (a) {
      case axis::batch: return batch;
      case axis::time: return micro_rows ? time * micro : time;
      case axis::key_head: return heads;
      case axis::value_head: return heads * group;
      case axis::key_dim: return key_dim;
      case axis::value_dim: return value_dim;
      default: return taps;
    }
  }
  std::vector<index> extents(const input_info& i) const {
    std::vector<index> e;
    for (const axis a : i.axes) e.push_back(extent(a, i.micro));
    return e;
  }
};

class dice {
 public:
  explicit dice(unsigned seed) : engine_(seed) {}
  index below(index n) { return std::uniform_int_distribution<index>(0, n - 1)(engine_); }
  bool one_in(index n) { return below(n) == 0; }
  double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  double normal() { return std::normal_distribution<double>()(engine_); }
  template <class T>
  T any(std::initializer_list<T> list) { return list.begin()[below(static_cast<index>(list.size()))]; }

 private:
  std::mt19937_64 engine_;
};

struct field {
  input_info info;
  std::vector<index> extent;
  std::vector<double> values;
  bool null = false;

  void round() {
    for (double& x : values) x = rounded(info.type, x);
  }
};

struct problem {
  sizes s;
  std::vector<field> fields;

  field* find(std::string_view name) {
    for (field& f : fields)
      if (f.info.name == name) return &f;
    return nullptr;
  }
  std::vector<double>& operator[](std::string_view name) { return find(name)->values; }
};

enum class keys { normalised, repeated, orthogonal, zero };
enum class gates { zero, mild, strong, single, minus_infinity };
enum class betas { zero, one, two, random };

struct style {
  contract::keys keys = keys::normalised;
  contract::gates gates = gates::mild;
  contract::betas betas = betas::random;

  static style random(dice& d) {
    return {d.any({keys::normalised, keys::normalised, keys::repeated, keys::orthogonal, keys::zero}),
            d.any({gates::zero, gates::mild, gates::strong, gates::single, gates::minus_infinity}),
            d.any({betas::zero, betas::one, betas::two, betas::random, betas::random})};
  }
};

// Generators of one tensor. Rows are what lies along the last axis.
inline void fill_normal(std::vector<double>& v, dice& d) {
  for (double& x : v) x = d.normal();
}
inline void fill_integers(std::vector<double>& v, dice& d, index most = 2) {
  for (double& x : v) x = static_cast<double>(d.below(2 * most + 1) - most);
}
inline void fill_keys(field& f, contract::keys kind, dice& d) {
  const auto width = static_cast<std::size_t>(std::max<index>(1, f.extent.back()));
  std::vector<double> row(width);
  const auto unit = [&] {
    double sum = 0;
    for (double& x : row) x = d.normal(), sum += x * x;
    for (double& x : row) x /= std::sqrt(sum);
  };
  unit();
  for (std::size_t at = 0, n = 0; at + width <= f.values.size(); at += width, ++n) {
    if (kind == keys::normalised) unit();
    if (kind == keys::orthogonal) std::fill(row.begin(), row.end(), 0.0), row[(n * 5 + 1) % width] = 1;
    if (kind == keys::zero) std::fill(row.begin(), row.end(), 0.0);
    std::copy(row.begin(), row.end(), f.values.begin() + static_cast<index>(at));
  }
}
inline void fill_decays(std::vector<double>& v, contract::gates kind, dice& d) {
  const index rare = std::max<index>(1, static_cast<index>(v.size()) / 3);
  for (double& x : v) {
    x = kind == gates::zero ? 0 : kind == gates::strong ? d.uniform(-60, 0) : d.uniform(-0.1, 0);
    if (kind == gates::single && d.one_in(std::min<index>(rare, 20))) x = -200;
    if (kind == gates::minus_infinity && d.one_in(std::min<index>(rare, 15))) x = -std::numeric_limits<double>::infinity();
  }
}
inline void fill_betas(std::vector<double>& v, contract::betas kind, dice& d) {
  for (double& x : v) x = kind == betas::zero ? 0 : kind == betas::one ? 1 : kind == betas::two ? 2 : d.uniform(0, 1);
}

// A number of tokens or channels, mostly next to a power of two. No more than `most`.
inline index random_size(dice& d, index most, bool zero = true) {
  for (;;) {
    const index n = d.any<index>({0, 1, 2, 3, 5, 7, 8, 9, 12, 13, 15, 16, 17, 24, 25, 31, 32, 33, 40, 48, 63, 64, 65, 100, 127, 128, 129});
    if (n <= most && (n > 0 || (zero && d.one_in(3)))) return n;
  }
}

// Sizes whose literal form costs little; now and then with the fast widths 64 and 128, ragged, empty.
inline sizes random_sizes(dice& d, bool ragged = true) {
  sizes s;
  for (;;) {
    s.key_dim = random_size(d, 129);
    s.value_dim = random_size(d, 129);
    s.time = random_size(d, 100);
    s.batch = d.any<index>({0, 1, 1, 1, 2, 2, 3});
    if (s.batch == 0 && !d.one_in(4)) continue;
    s.heads = d.any<index>({1, 1, 2, 3});
    s.group = d.any<index>({1, 1, 2, 3});
    const index cost = s.batch * s.time * s.heads * s.group * s.key_dim * s.value_dim;
    if (cost <= (d.one_in(12) ? 600'000 : 60'000)) break;
  }
  if (ragged && d.one_in(4)) {
    s.batch = 1;
    s.cu = {0};
    for (index n = 1 + d.below(4); n > 0; --n) s.cu.push_back(d.one_in(4) ? s.cu.back() : s.cu.back() + d.below(s.time - s.cu.back() + 1));
    s.time = s.cu.back();
  }
  return s;
}

}  // namespace contract
