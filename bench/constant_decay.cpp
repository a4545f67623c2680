#include <weft/recurrence/retention.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_constant_decay() {
  add_recurrence<weft::retention_policy>("retention");
  add_recurrence<weft::lightning_policy>("lightning");
}
