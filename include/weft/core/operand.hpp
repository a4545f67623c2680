// A view under a name, without its type: what checks are compiled for, once instead of for every mixer and storage type.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "output.hpp"
#include "view.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace check {

struct operand {
  std::string_view name;
  const void* data = nullptr;
  index element = 0;  // bytes
  std::size_t rank = 0;
  std::array<index, 4> extents{}, strides{};
  std::uintptr_t low = 0, high = 0;  // the bytes between its ends, which strides below 0 extend downwards; both 0 without elements
  bool possible = true;              // extents from 0 up, and less than 2^60 bytes of elements (zeros aside) and from end to end

  operand() = default;
  template <class T, int Rank>
  WEFT_INLINE operand(std::string_view n, const view<T, Rank>& v) : operand(n, v, sizeof(T)) {}
  template <storage T, int Rank>
  WEFT_INLINE operand(std::string_view n, const output<T, Rank>& v) : operand(n, v, v.wide ? sizeof(accumulate_t<T>) : sizeof(T)) {}

  bool null() const { return data == nullptr; }
  std::span<const index> extent() const { return {extents.data(), rank}; }
  std::span<const index> stride() const { return {strides.data(), rank}; }
  // Where only one index is there, its stride means nothing.
  bool same_place(const operand& other) const {
    bool same = data == other.data && element == other.element && rank == other.rank && extents == other.extents;
    for (std::size_t d = 0; d < rank; ++d) same = same && (extents[d] == 1 || strides[d] == other.strides[d]);
    return same;
  }

 private:
  template <class View>
  WEFT_INLINE operand(std::string_view n, const View& v, std::size_t bytes) : name(n), data(v.data), element(static_cast<index>(bytes)), rank(v.extent.size()) {
    static_assert(std::tuple_size_v<decltype(v.extent)> <= 4, "weft: views have at most 4 dimensions");
    bool empty = v.null();
    index size = element, below = 0, above = element;
    for (std::size_t d = 0; d < rank; ++d) {
      extents[d] = v.extent[d];
      strides[d] = v.stride[d];
      empty |= extents[d] == 0;
      possible = possible && extents[d] >= 0;
      grow(size, size, std::max<index>(1, extents[d]));
    }
    if (empty || !possible) return;
    for (std::size_t d = 0; d < rank; ++d) {
      if (extents[d] == 1) continue;
      index span = element;
      grow(span, strides[d], span);
      grow(span, extents[d] - 1, span);
      index& end = span < 0 ? below : above;
      possible = possible && !__builtin_add_overflow(end, span, &end) && end > -limit && end < limit;
    }
    if (!possible) return;
    low = reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(below);
    high = reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(above);
  }
  static constexpr index limit = index{1} << 60;
  void grow(index& product, index a, index b) { possible = possible && !__builtin_mul_overflow(a, b, &product) && product > -limit && product < limit; }
};

// Whether one view is exactly the other: what reads each element before it writes it may work in place.
template <class T, class U, int Rank>
WEFT_INLINE bool same_view(const view<T, Rank>& a, const view<U, Rank>& b) {
  return std::is_same_v<std::remove_const_t<T>, std::remove_const_t<U>> && operand({}, a).same_place(operand({}, b));
}

}  // namespace check
}  // namespace WEFT_ISA
}  // namespace weft
