// Whether strided views share elements, exactly and without memory of its own: the parts of a fused buffer interleave, so that their
// ranges meet where their elements do not. Strides that tensors do not have, none nearly a multiple of another, could ask for a
// search without bounds (a Diophantine equation); it ends after a fixed number of looks, and such views count as shared.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "operand.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace check {
namespace overlap {

// The bytes of a view as equal runs, whose starts are those of the outer dimensions.
struct runs {
  struct dimension {
    index extent, stride;  // above 1; in bytes, not 0
  };
  index bytes = 0;  // of a run; 0 without elements
  std::array<dimension, 4> outer{};
  std::size_t rank = 0;
  bool repeats = false;  // an index that changes nothing

  explicit runs(const operand& v) {
    if (v.low == v.high) return;
    bytes = v.element;
    for (std::size_t d = v.rank; d-- > 0;) {
      const index e = v.extents[d];
      if (e == 1) continue;
      const index s = v.strides[d] * v.element;
      if (s == 0) repeats = true;
      else if (rank == 0 && s == bytes) bytes *= e;
      else outer[rank++] = {e, s};
    }
  }
};

// Sums of multiples of strides: the distances between the runs of two views.
class distances {
 public:
  // Multiples low..high of a stride. Those of equal strides add up to one range without gaps.
  void add(index stride, index low, index high) {
    if (stride < 0) return add(-stride, -high, -low);
    std::size_t at = 0;
    while (at < count_ && terms_[at].stride > stride) ++at;
    if (at < count_ && terms_[at].stride == stride) {
      terms_[at].low += low;
      terms_[at].high += high;
      return;
    }
    std::copy_backward(terms_.begin() + at, terms_.begin() + count_, terms_.begin() + count_ + 1);
    terms_[at] = {stride, low, high};
    ++count_;
  }

  // Whether one of them plus `from` lies between both bounds, without these. Nested strides, which real tensors have, leave at most two
  // multiples a term to look at.
  bool meet(index from, index above, index below, std::size_t first = 0) {
    if (looks_-- <= 0) return true;
    if (first == count_) return from > above && from < below;
    index low = from, high = from;  // what the other terms can make of it
    for (std::size_t i = first + 1; i < count_; ++i) {
      low += terms_[i].stride * terms_[i].low;
      high += terms_[i].stride * terms_[i].high;
    }
    const auto [stride, least, most] = terms_[first];
    for (index n = std::max(least, floor_div(above - high, stride) + 1); n <= most && low + n * stride < below; ++n)
      if (meet(from + n * stride, above, below, first + 1)) return true;
    return false;
  }

  // Whether two different choices of multiples come closer than `bytes`, where every term is a difference of one dimension's indices.
  bool meet_themselves(index bytes) {
    for (std::size_t first = 0; first < count_; ++first) {  // the first term that differs, by symmetry upwards
      terms_[first].low = 1;
      if (meet(0, -bytes, bytes, first)) return true;
    }
    return false;
  }

 private:
  struct term {
    index stride, low, high;
  };
  static index floor_div(index a, index b) { return a / b - (a % b < 0); }

  std::array<term, 8> terms_{};  // descending strides, each once
  std::size_t count_ = 0;
  int looks_ = 4096;  // nested strides of 8 terms take at most 2^9
};

}  // namespace overlap

inline bool share_elements(const operand& a, const operand& b) {
  if (a.low >= b.high || b.low >= a.high) return false;
  const overlap::runs p(a), q(b);
  overlap::distances between;
  for (std::size_t d = 0; d < p.rank; ++d) between.add(p.outer[d].stride, 0, p.outer[d].extent - 1);
  for (std::size_t d = 0; d < q.rank; ++d) between.add(-q.outer[d].stride, 0, q.outer[d].extent - 1);
  return between.meet(static_cast<index>(reinterpret_cast<std::uintptr_t>(a.data) - reinterpret_cast<std::uintptr_t>(b.data)), -p.bytes, q.bytes);
}

// Whether two positions of a view are one element, or overlap.
inline bool shares_with_itself(const operand& v) {
  const overlap::runs p(v);
  if (p.repeats) return true;
  overlap::distances within;
  for (std::size_t d = 0; d < p.rank; ++d) {
    for (std::size_t other = 0; other < d; ++other)
      if (p.outer[d].stride == p.outer[other].stride || p.outer[d].stride == -p.outer[other].stride) return true;
    within.add(p.outer[d].stride, 1 - p.outer[d].extent, p.outer[d].extent - 1);
  }
  return within.meet_themselves(p.bytes);
}

}  // namespace check
}  // namespace WEFT_ISA
}  // namespace weft
