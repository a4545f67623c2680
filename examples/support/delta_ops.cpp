// The delta rules: what is written is erased first, along the key.
#include "recurrence_op.hpp"

namespace ops {

std::vector<op> delta_operators() {
  return {
      recurrence_row<weft::delta_policy>("delta_rule"),
      recurrence_row<weft::gated_delta_policy>("gated_delta_rule"),
      recurrence_row<weft::kda_policy>("kda"),
      recurrence_row<weft::gdn2_policy>("gdn2"),
  };
}

}  // namespace ops
