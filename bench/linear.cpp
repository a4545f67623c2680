#include <weft/recurrence/linear_attention.hpp>

#include "operators.hpp"
#include "recurrence.hpp"

void bench::add_linear() {
  add_recurrence<weft::linear_attention_policy<false>>("linear_attention");
  add_recurrence<weft::linear_attention_policy<true>>("linear_attention_normalised");
}
