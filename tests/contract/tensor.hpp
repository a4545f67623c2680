// Tensors whose element type is known at run time: checks are written once for all mixers and storage types.
#pragma once
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <weft/core/dtype.hpp>
#include <weft/core/view.hpp>

namespace contract {

using weft::index;

enum class element { f32, f64, bf16, fp16, i64 };

template <class T>
constexpr element element_of() {
  if constexpr (std::is_same_v<T, float>) return element::f32;
  else if constexpr (std::is_same_v<T, double>) return element::f64;
  else if constexpr (std::is_same_v<T, weft::bf16>) return element::bf16;
  else if constexpr (std::is_same_v<T, weft::fp16>) return element::fp16;
  else return element::i64;
}

// f(T{}) with the type that e stands for.
template <class F>
decltype(auto) with_element(element e, F&& f) {
  switch (e) {
    case element::f32: return f(float{});
    case element::f64: return f(double{});
    case element::bf16: return f(weft::bf16{});
    case element::fp16: return f(weft::fp16{});
    default: return f(std::int64_t{});
  }
}
inline std::size_t bytes_of(element e) {
  return with_element(e, [](auto x) { return sizeof(x); });
}
template <class T>
double to_double(T x) {
  if constexpr (sizeof(T) == 2) return static_cast<double>(static_cast<float>(x));
  else return static_cast<double>(x);
}
template <class T>
T from_double(double x) {
  if constexpr (sizeof(T) == 2) return T(static_cast<float>(x));
  else return static_cast<T>(x);
}
// The number that storage in e makes of x.
inline double rounded(element e, double x) {
  return with_element(e, [x](auto t) { return to_double(from_double<decltype(t)>(x)); });
}

// What rounding a number to 16 bits may change of it: half a unit in its last place.
inline double half_place(element e) { return e == element::bf16 ? 0x1p-8 : e == element::fp16 ? 0x1p-11 : 0; }

struct tensor {
  element type = element::f32;
  std::byte* data = nullptr;
  std::vector<index> extent, stride;

  index size() const {
    index n = 1;
    for (const index e : extent) n *= e;
    return n;
  }
  tensor slice(std::size_t dim, index first, index count) const {
    tensor t = *this;
    if (t.data) t.data += first * stride[dim] * static_cast<index>(bytes_of(type));
    t.extent[dim] = count;
    return t;
  }
  template <class View>
  View as() const {
    View v;
    v.data = reinterpret_cast<decltype(v.data)>(data);
    for (std::size_t i = 0; i < extent.size(); ++i) v.extent[i] = extent[i], v.stride[i] = stride[i];
    return v;
  }
  // f(position in row-major order, element's address)
  template <class F>
  void for_each(F&& f) const {
    const index n = size(), width = static_cast<index>(bytes_of(type));
    std::vector<index> at(extent.size());
    for (index i = 0; i < n; ++i) {
      index offset = 0;
      for (std::size_t d = 0; d < at.size(); ++d) offset += at[d] * stride[d];
      f(i, data + offset * width);
      for (std::size_t d = at.size(); d-- > 0 && ++at[d] == extent[d];) at[d] = 0;
    }
  }
  void put(const std::vector<double>& values) const {
    with_element(type, [&](auto t) {
      for_each([&](index i, std::byte* p) {
        const auto x = from_double<decltype(t)>(values[static_cast<std::size_t>(i)]);
        std::memcpy(p, &x, sizeof x);
      });
    });
  }
  std::vector<double> get() const {
    std::vector<double> values(static_cast<std::size_t>(size()));
    with_element(type, [&](auto t) {
      for_each([&](index i, const std::byte* p) {
        std::memcpy(&t, p, sizeof t);
        values[static_cast<std::size_t>(i)] = to_double(t);
      });
    });
    return values;
  }
};

inline std::vector<index> row_major(const std::vector<index>& extent) {
  std::vector<index> stride(extent.size(), 1);
  for (std::size_t d = extent.size(); d-- > 1;) stride[d - 1] = stride[d] * extent[d];
  return stride;
}

// Equal numbers; a NaN equals a NaN, and -0 equals 0 only without `bits`.
inline bool same(double a, double b, bool bits = true) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && (!bits || std::signbit(a) == std::signbit(b));
}
inline bool same(const std::vector<double>& a, const std::vector<double>& b, bool bits = true) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i], bits)) return false;
  return true;
}

}  // namespace contract
