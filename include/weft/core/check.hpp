// Checks of the public boundary. Each throws weft::error that names the tensor, what was expected and what came.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "error.hpp"
#include "view.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace check {

// Writes "[2, 21, 3, 8]" when a message is made, and costs nothing before. Lives within one expression.
template <class Extents>
struct list {
  const Extents& extents;

  explicit list(const Extents& e) : extents(e) {}
  friend std::ostream& operator<<(std::ostream& out, const list& l) {
    const char* before = "[";
    for (const index e : l.extents) out << std::exchange(before, ", ") << e;
    return out << (*before == '[' ? "[]" : "]");
  }
};

// Extents as expected, a unit last stride where a row has a width, no elements behind a null pointer.
template <class T, int Rank>
void tensor(std::string_view name, const view<T, Rank>& v, const std::type_identity_t<std::array<index, static_cast<std::size_t>(Rank)>>& expected, bool optional,
            bool unit_last) {
  if (v.null()) {
    bool empty = false;
    for (const index e : expected) empty |= e == 0;
    require(optional || empty, errc::missing, name, ": expected ", list(expected), ", got a null view");
    return;
  }
  require(v.extent == expected, errc::shape, name, ": expected ", list(expected), ", got ", list(v.extent));
  require(!unit_last || v.extent[Rank - 1] <= 1 || v.stride[Rank - 1] == 1, errc::shape, name,
          ": expected a last stride of 1, got ", v.stride[Rank - 1]);
}

// cu_seqlens [N + 1] over `time` packed tokens; returns N. Empty sequences are legal.
inline index sequences(std::span<const index> cu, index batch, index time) {
  if (cu.empty()) return batch;
  require(batch == 1, errc::sequence, "cu_seqlens: expected packed tokens of batch 1, got batch ", batch);
  require(cu.front() == 0, errc::sequence, "cu_seqlens: expected to start at 0, got ", cu.front());
  for (std::size_t i = 1; i < cu.size(); ++i)
    require(cu[i] >= cu[i - 1], errc::sequence, "cu_seqlens: expected ascending offsets, got ", cu[i], " after ", cu[i - 1]);
  require(cu.back() == time, errc::sequence, "cu_seqlens: expected to end at ", time, " tokens, got ", cu.back());
  return static_cast<index>(cu.size()) - 1;
}

// The bytes between a view's ends, which strides below 0 extend downwards. All that most calls cost: views apart meet nowhere.
struct byte_range {
  std::uintptr_t low = 0, high = 0;  // both 0 where there are no elements

  template <class T, int Rank>
  WEFT_INLINE explicit byte_range(const view<T, Rank>& v) {
    if (v.null() || v.size() == 0) return;
    low = reinterpret_cast<std::uintptr_t>(v.data);
    high = low + sizeof(T);
    for (std::size_t d = 0; d < Rank; ++d) {
      const index span = (v.extent[d] - 1) * v.stride[d] * static_cast<index>(sizeof(T));
      (span < 0 ? low : high) += static_cast<std::uintptr_t>(span);
    }
  }
  WEFT_INLINE bool meets(const byte_range& other) const { return low < other.high && other.low < high; }
};

// The bytes of a strided view as rows: what two views whose ranges meet are compared by.
struct footprint : byte_range {
  std::uintptr_t begin;  // the first element
  index row;             // bytes of the innermost run; 0 without elements
  std::array<std::pair<index, index>, 8> outer;  // (extent, stride in bytes), extents above 1
  std::size_t rank = 0;

  template <class T, int Rank>
  explicit footprint(const view<T, Rank>& v) : byte_range(v), begin(reinterpret_cast<std::uintptr_t>(v.data)), row(low == high ? 0 : sizeof(T)) {
    if (row == 0) return;
    for (int d = Rank - 1; d >= 0; --d) {
      const index e = v.extent[static_cast<std::size_t>(d)], s = v.stride[static_cast<std::size_t>(d)] * static_cast<index>(sizeof(T));
      if (e == 1 || s == 0) continue;
      if (rank == 0 && s == row) row *= e;  // continues the run
      else outer[rank++] = {e, s};
    }
  }
  // The start of every row.
  std::vector<std::uintptr_t> rows() const {
    std::vector<std::uintptr_t> starts{begin};
    for (std::size_t d = 0; d < rank; ++d) {
      const auto [e, s] = outer[d];
      const std::size_t n = starts.size();
      for (index i = 1; i < e; ++i)
        for (std::size_t j = 0; j < n; ++j) starts.push_back(starts[j] + static_cast<std::uintptr_t>(i * s));
    }
    return starts;
  }
};

// Whether two views share an element. Cheap where their ranges are apart; else rows are compared one by one.
inline bool share_elements(const footprint& a, const footprint& b) {
  if (!a.meets(b)) return false;
  auto x = a.rows(), y = b.rows();
  std::sort(x.begin(), x.end());
  std::sort(y.begin(), y.end());
  for (std::size_t i = 0, j = 0; i < x.size() && j < y.size();) {
    if (x[i] + static_cast<std::uintptr_t>(a.row) <= y[j]) ++i;
    else if (y[j] + static_cast<std::uintptr_t>(b.row) <= x[i]) ++j;
    else return true;
  }
  return false;
}

template <class T, class U, int R1, int R2>
void no_overlap(std::string_view out_name, const view<T, R1>& out, std::string_view in_name, const view<U, R2>& in) {
  if (!byte_range(out).meets(byte_range(in))) return;
  require(!share_elements(footprint(out), footprint(in)), errc::overlap, out_name, ": expected memory apart from ", in_name,
          ", got views that share elements");
}

}  // namespace check
}  // namespace WEFT_ISA
}  // namespace weft
