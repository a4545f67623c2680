#include <weft/recurrence/delta_rule.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_delta() {
  add_recurrence<weft::delta_policy>("delta_rule");
  add_recurrence<weft::gated_delta_policy>("gated_delta_rule");
}
