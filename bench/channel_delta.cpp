#include <weft/recurrence/delta_rule.hpp>
#include <weft/recurrence/gdn2.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_channel_delta() {
  add_recurrence<weft::kda_policy>("kda");
  add_recurrence<weft::gdn2_policy>("gdn2");
}
