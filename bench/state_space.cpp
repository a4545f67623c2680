#include <weft/recurrence/mamba2.hpp>
#include <weft/recurrence/rwkv6.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_state_space() {
  add_recurrence<weft::mamba2_policy>("mamba2");
  add_recurrence<weft::rwkv6_policy>("rwkv6");
}
