// The whole contract for one mixer, for a mixer that is defined elsewhere.
#pragma once
#include "accuracy.hpp"
#include "independence.hpp"
#include "state.hpp"

namespace contract {

inline void hold_to_contract(const subject& m) {
  repeat(m, 300, accurate);
  repeat(m, 60, modes_agree);
  repeat(m, 60, integers_are_exact);
  repeat(m, 60, splits_agree);
  repeat(m, 30, resumes);
  repeat(m, 100, contained);
  repeat(m, 15, threads_agree);
  repeat(m, 8, calls_are_independent);
  repeat(m, 60, in_place);
}

}  // namespace contract
