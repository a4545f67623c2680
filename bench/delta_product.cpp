#include <weft/recurrence/comba.hpp>
#include <weft/recurrence/gated_delta_product.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_delta_product() {
  add_recurrence<weft::comba_policy>("comba");
  add_recurrence<weft::gated_delta_product_policy>("gated_delta_product", 2);
}
