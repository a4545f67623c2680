// Strided views of memory that somebody else owns. The last stride is 1; extents and strides count elements.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "config.hpp"

namespace weft {
inline namespace v1 {

using index = std::int64_t;

// A view [e0, e1, ..., eR-1] of T. A null view (data == nullptr) stands for an absent tensor.
// Row-major with any strides, so the parts of a fused qkv buffer are views of it without a copy.
template <class T, int Rank>
struct view {
  static constexpr int rank = Rank;
  using element = T;

  T* data = nullptr;
  std::array<index, Rank> extent{};
  std::array<index, Rank> stride{};

  view() = default;

  // Contiguous, row-major. Extents are anybody's: strides that no memory has wrap around, and the verbs' checks refuse them.
  WEFT_HD WEFT_INLINE view(T* p, std::array<index, Rank> extents) : data(p), extent(extents) {
    std::uint64_t step = 1;
    for (int i = Rank - 1; i >= 0; --i) {
      stride[static_cast<std::size_t>(i)] = static_cast<index>(step);
      step *= static_cast<std::uint64_t>(extent[static_cast<std::size_t>(i)]);
    }
  }
  WEFT_HD WEFT_INLINE view(T* p, std::array<index, Rank> extents, std::array<index, Rank> strides)
      : data(p), extent(extents), stride(strides) {}

  // view<T> reads as view<const T>.
  template <class U>
    requires(!std::same_as<U, T> && std::same_as<const U, T>)
  WEFT_HD WEFT_INLINE view(const view<U, Rank>& other) : data(other.data), extent(other.extent), stride(other.stride) {}

  WEFT_HD WEFT_INLINE bool null() const { return data == nullptr; }
  WEFT_HD WEFT_INLINE index size() const {
    index n = 1;
    for (const index e : extent) n *= e;
    return n;
  }

  template <std::convertible_to<index>... I>
  WEFT_HD WEFT_INLINE T& operator()(I... at) const {
    static_assert(sizeof...(I) == Rank, "weft: a view takes as many indices as its rank");
    const index where[] = {static_cast<index>(at)...};
    index offset = 0;
    for (std::size_t i = 0; i < Rank; ++i) offset += where[i] * stride[i];
    return data[offset];
  }

  // The part [first, first + count) of one dimension.
  WEFT_HD WEFT_INLINE view slice(int dim, index first, index count) const {
    view part = *this;
    const auto d = static_cast<std::size_t>(dim);
    if (part.data) part.data += first * stride[d];
    part.extent[d] = count;
    return part;
  }
};

template <class T, int Rank>
view(T*, std::array<index, Rank>) -> view<T, Rank>;

}  // namespace v1
}  // namespace weft
