// Checks of the public boundary. Each throws weft::error that names the tensor, what was expected and what came.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "error.hpp"
#include "output.hpp"
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

// A view under a name, without its type: checks are compiled once, not for every mixer and storage type.
struct operand {
  std::string_view name;
  const void* data = nullptr;
  index element = 0;  // bytes
  std::size_t rank = 0;
  std::array<index, 4> extents{}, strides{};
  std::uintptr_t low = 0, high = 0;  // the bytes between its ends, which strides below 0 extend downwards; both 0 without elements

  operand() = default;
  template <class T, int Rank>
  WEFT_INLINE operand(std::string_view n, const view<T, Rank>& v) : operand(n, v, sizeof(T)) {}
  template <storage T, int Rank>
  WEFT_INLINE operand(std::string_view n, const output<T, Rank>& v) : operand(n, v, v.wide ? sizeof(accumulate_t<T>) : sizeof(T)) {}

  bool null() const { return data == nullptr; }
  std::span<const index> extent() const { return {extents.data(), rank}; }
  bool same_place(const operand& other) const {
    return data == other.data && element == other.element && rank == other.rank && extents == other.extents && strides == other.strides;
  }

 private:
  template <class View>
  WEFT_INLINE operand(std::string_view n, const View& v, std::size_t bytes) : name(n), data(v.data), element(static_cast<index>(bytes)), rank(v.extent.size()) {
    static_assert(std::tuple_size_v<decltype(v.extent)> <= 4, "weft: views have at most 4 dimensions");
    bool empty = v.null();
    index below = 0, above = 0;
    for (std::size_t d = 0; d < rank; ++d) {
      extents[d] = v.extent[d];
      strides[d] = v.stride[d];
      empty |= v.extent[d] == 0;
      const index span = (v.extent[d] - 1) * v.stride[d] * element;
      (span < 0 ? below : above) += span;
    }
    if (empty) return;
    low = reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(below);
    high = reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(above + element);
  }
};

// Extents as expected, a unit last stride where a row has a width, no elements behind a null pointer.
inline void tensor(const operand& v, std::span<const index> expected, bool optional, bool unit_last) {
  if (v.null()) {
    require(optional || std::find(expected.begin(), expected.end(), 0) != expected.end(), errc::missing, v.name, ": expected ", list(expected), ", got a null view");
    return;
  }
  const auto extent = v.extent();
  require(std::equal(extent.begin(), extent.end(), expected.begin(), expected.end()), errc::shape, v.name, ": expected ", list(expected), ", got ", list(extent));
  require(!unit_last || extent.back() <= 1 || v.strides[v.rank - 1] == 1, errc::shape, v.name, ": expected a last stride of 1, got ", v.strides[v.rank - 1]);
}
template <class T, int Rank>
WEFT_INLINE void tensor(std::string_view name, const view<T, Rank>& v, const std::type_identity_t<std::array<index, static_cast<std::size_t>(Rank)>>& expected,
                        bool optional, bool unit_last) {
  tensor(operand(name, v), expected, optional, unit_last);
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

// The bytes of a strided view as rows: what two views whose ranges meet are compared by.
struct footprint {
  std::uintptr_t begin;  // the first element
  index row;             // bytes of the innermost run; 0 without elements
  std::array<std::pair<index, index>, 4> outer;  // (extent, stride in bytes), extents above 1
  std::size_t rank = 0;

  explicit footprint(const operand& v) : begin(reinterpret_cast<std::uintptr_t>(v.data)), row(v.low == v.high ? 0 : v.element) {
    if (row == 0) return;
    for (std::size_t d = v.rank; d-- > 0;) {
      const index e = v.extents[d], s = v.strides[d] * v.element;
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
inline bool share_elements(const operand& a, const operand& b) {
  if (a.low >= b.high || b.low >= a.high) return false;
  const footprint p(a), q(b);
  auto x = p.rows(), y = q.rows();
  std::sort(x.begin(), x.end());
  std::sort(y.begin(), y.end());
  for (std::size_t i = 0, j = 0; i < x.size() && j < y.size();) {
    if (x[i] + static_cast<std::uintptr_t>(p.row) <= y[j]) ++i;
    else if (y[j] + static_cast<std::uintptr_t>(q.row) <= x[i]) ++j;
    else return true;
  }
  return false;
}

inline void no_overlap(const operand& out, const operand& in) {
  require(!share_elements(out, in), errc::overlap, out.name, ": expected memory apart from ", in.name, ", got views that share elements");
}
template <class T, class U, int R1, int R2>
WEFT_INLINE void no_overlap(std::string_view out_name, const view<T, R1>& out, std::string_view in_name, const view<U, R2>& in) {
  no_overlap(operand(out_name, out), operand(in_name, in));
}

// Gradients go to places of their own: apart from what is read, and from each other.
class gradient_places {
 public:
  void read(const operand& v) { read_.add(v); }  // its name is kept as a reference
  void write(const operand& v) {
    read_.each([&](const operand& other) { no_overlap(v, other); });
    written_.each([&](const operand& other) {
      require(!share_elements(v, other), errc::overlap, v.name, ": expected memory apart from the other gradients, got views that share elements");
    });
    written_.add(v, std::string_view());  // the caller's text may not live as long
  }

 private:
  // Of one mixer without an allocation: what has been rehearsed does not fail.
  class operands {
   public:
    void add(const operand& v, std::optional<std::string_view> name = {}) {
      operand& to = count_ < few_.size() ? few_[count_++] : more_.emplace_back();
      to = v;
      if (name) to.name = *name;
    }
    template <class F>
    void each(F&& f) const {
      for (std::size_t i = 0; i < count_; ++i) f(few_[i]);
      for (const operand& v : more_) f(v);
    }

   private:
    std::array<operand, 16> few_;
    std::size_t count_ = 0;
    std::vector<operand> more_;
  };
  operands read_, written_;
};

}  // namespace check
}  // namespace WEFT_ISA
}  // namespace weft
