#include <weft/recurrence/gla.hpp>
#include <weft/recurrence/hgrn2.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_gated() {
  add_recurrence<weft::simple_gla_policy>("simple_gla");
  add_recurrence<weft::gla_policy>("gla");
  add_recurrence<weft::hgrn2_policy>("hgrn2");
}
