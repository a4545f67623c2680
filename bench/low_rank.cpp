#include <weft/recurrence/dplr.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_low_rank() {
  add_recurrence<weft::rwkv7_policy>("rwkv7");
  add_recurrence<weft::dplr_policy>("dplr");
}
