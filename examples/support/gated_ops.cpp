// Operators that add under a decay of each token.
#include "recurrence_op.hpp"

#include <limits>

namespace ops {
namespace {

results mamba2(const call& c) {
  return recurrence_operator<weft::mamba2_policy>(c, [&](weft::mamba2_policy& policy) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    policy.dt_softplus = c.options.flag("dt_softplus", policy.dt_softplus);
    policy.dt_min = c.options.number("dt_min", -infinity);  // absent: no clamp, also of a plain negative step
    policy.dt_max = c.options.number("dt_max", infinity);
    weft::require(policy.dt_min <= policy.dt_max, weft::errc::value, "dt_min: expected at most dt_max = ", policy.dt_max, ", got ", policy.dt_min);
  });
}

}  // namespace

std::vector<op> gated_operators() {
  return {
      recurrence_row<weft::simple_gla_policy>("simple_gla"),
      recurrence_row<weft::gla_policy>("gla"),
      recurrence_row<weft::hgrn2_policy>("hgrn2"),
      recurrence_row<weft::mamba2_policy>("mamba2", mamba2, {"dt_softplus", "dt_min", "dt_max"}),
      recurrence_row<weft::rwkv6_policy>("rwkv6"),
  };
}

}  // namespace ops
