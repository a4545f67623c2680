// Checks of the public boundary. Each throws weft::error that names the tensor, what was expected and what came.
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "error.hpp"
#include "overlap.hpp"

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

// Extents as expected and such that memory can have them, a unit last stride where a row has a width, no elements behind a null pointer.
inline void tensor(const operand& v, std::span<const index> expected, bool optional, bool unit_last) {
  if (v.null()) {
    require(optional || std::find(expected.begin(), expected.end(), 0) != expected.end(), errc::missing, v.name, ": expected ", list(expected), ", got a null view");
    return;
  }
  const auto extent = v.extent();
  require(std::equal(extent.begin(), extent.end(), expected.begin(), expected.end()), errc::shape, v.name, ": expected ", list(expected), ", got ", list(extent));
  require(v.possible, errc::shape, v.name, ": expected extents from 0 up and elements within 2^60 bytes, got ", list(extent), " with strides ", list(v.stride()));
  require(!unit_last || extent.back() <= 1 || v.strides[v.rank - 1] == 1, errc::shape, v.name, ": expected a last stride of 1, got ", v.strides[v.rank - 1]);
}
template <class T, int Rank>
WEFT_INLINE void tensor(std::string_view name, const view<T, Rank>& v, const std::type_identity_t<std::array<index, static_cast<std::size_t>(Rank)>>& expected,
                        bool optional, bool unit_last) {
  tensor(operand(name, v), expected, optional, unit_last);
}

// The same of a view that is written, where no two positions may be one element.
inline void result(const operand& v, std::span<const index> expected, bool optional, bool unit_last) {
  tensor(v, expected, optional, unit_last);
  require(!shares_with_itself(v), errc::overlap, v.name, ": expected a place of its own for every element, got strides ", list(v.stride()), " for extents ", list(v.extent()));
}
template <class T, int Rank>
WEFT_INLINE void result(std::string_view name, const view<T, Rank>& v, const std::type_identity_t<std::array<index, static_cast<std::size_t>(Rank)>>& expected,
                        bool optional, bool unit_last) {
  result(operand(name, v), expected, optional, unit_last);
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

inline void no_overlap(const operand& out, const operand& in) {
  require(!share_elements(out, in), errc::overlap, out.name, ": expected memory apart from ", in.name, ", got views that share elements");
}
template <class T, class U, int R1, int R2>
WEFT_INLINE void no_overlap(std::string_view out_name, const view<T, R1>& out, std::string_view in_name, const view<U, R2>& in) {
  no_overlap(operand(out_name, out), operand(in_name, in));
}

// Whatever is written has a place of its own: apart from what is read and from all else that is written. Of `in_place` it may be exactly one: these are
// read element by element, each before anything is written there.
inline void apart(std::initializer_list<operand> written, std::initializer_list<operand> read, std::initializer_list<operand> in_place = {}) {
  for (const operand& v : written) {
    for (const operand& other : read) no_overlap(v, other);
    for (const operand& other : in_place)
      if (!v.same_place(other)) no_overlap(v, other);
    for (const operand* other = written.begin(); other != &v; ++other) no_overlap(v, *other);
  }
}

// The same for gradients that a mixer lists one by one: apart from what is read, and from each other.
class gradient_places {
 public:
  void read(const operand& v) {  // its name is kept as a reference
    written_.each([&](const operand& other) {
      require(!share_elements(other, v), errc::overlap, v.name, ": expected memory apart from the gradients, got views that share elements");
    });
    read_.add(v);
  }
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
