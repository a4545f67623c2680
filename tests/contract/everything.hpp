// The whole contract for one mixer, for a mixer that is defined elsewhere.
#pragma once
#include "accuracy.hpp"
#include "gradient_accuracy.hpp"
#include "gradient_errors.hpp"
#include "gradient_independence.hpp"
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
  repeat(m, 10, gradients_are_differences);
  repeat(m, 1, gradients_at_the_edges);
  repeat(m, 20, gradients_are_adjoint);
  repeat(m, 60, gradients_are_accurate);
  repeat(m, 20, gradients_of_pieces_are_those_of_the_whole);
  repeat(m, 12, gradients_are_one);
  repeat(m, 60, gradients_are_contained);
  repeat(m, 1, refuses_wrong_ways_back);
}

}  // namespace contract
