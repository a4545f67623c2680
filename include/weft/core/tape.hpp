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

  // The record that scan fills: the last one's memory where it is of the same kind.
  template <class Record>
  Record& fill() {
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
