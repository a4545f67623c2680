// What a scan leaves for its gradients.
//
//   weft::tape tape{.every = 64};
//   weft::scan(cpu, mixer, in, state, out, tape);
//   weft::vjp(cpu, mixer, in, tape, {.o = d_o}, d_state, {.q = dq, .k = dk});
#pragma once
#include <any>

#include "error.hpp"
#include "state.hpp"
#include "view.hpp"

namespace weft {
inline namespace v1 {

// Memory against time: a recurrence keeps its state every so many tokens (rounded to the engine's grid) and what its tokens
// erased. With 0 it keeps the start alone, and vjp scans again. A tape may be used for one scan after another and grows once.
struct tape {
  index every = 64;
  std::any record{};  // the mixer's own; filled by scan
  std::size_t (*record_bytes)(const std::any&) = nullptr;

  // The memory that it holds.
  std::size_t bytes() const { return record_bytes ? record_bytes(record) : 0; }

  // The record that scan fills: the last one's memory where it is of the same kind.
  template <class Record>
  Record& fill() {
    record_bytes = [](const std::any& r) { return std::any_cast<const Record&>(r).bytes(); };
    if (Record* const old = std::any_cast<Record>(&record)) return *old;
    return record.emplace<Record>();
  }
  // The record that vjp reads.
  template <class Record>
  const Record& read() const {
    const Record* const r = std::any_cast<Record>(&record);
    if (!r) throw error(errc::value, record.has_value() ? "weft: tape: expected one filled by a scan of this mixer, got another mixer's"
                                                        : "weft: tape: expected one filled by a scan of this mixer, got an empty one");
    return *r;
  }
};

// The most memory that gradients take: what a tape holds between scan and vjp, and what vjp takes besides on an executor, once, for
// any number of calls. gradient_memory(executor, mixer, ...), beside each mixer's vjp, tells it before there is any.
struct gradient_bytes {
  std::size_t tape = 0, vjp = 0;
};
template <class... Array>
std::size_t array_bytes(const Array&... arrays) { return (std::size_t{0} + ... + arrays.bytes()); }

// A state for a record, in the last one's memory where it is of the same extents.
template <class S>
WEFT_INLINE void keep(S& to, const S& from) {
  for_each_part(to, from, [](const auto& kept, const auto& part) {
    if (!kept.data.null() && kept.data.extent() == part.data.extent()) std::copy_n(part.data.data(), part.data.size(), kept.data.data());
    else kept.data = part.data;
  });
}

}  // namespace v1
}  // namespace weft
