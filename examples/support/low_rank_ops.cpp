// Operators whose erase has vectors, a timing or micro-steps of its own.
#include "recurrence_op.hpp"

namespace ops {

std::vector<op> low_rank_operators() {
  return {
      recurrence_row<weft::rwkv7_policy>("rwkv7"),
      recurrence_row<weft::dplr_policy>("dplr"),
      recurrence_row<weft::comba_policy>("comba"),
      recurrence_row<weft::gated_delta_product_policy>("gated_delta_product"),
  };
}

}  // namespace ops
