// Class R, a policy of a user, and the other storage types.
#include "../recurrence/example_policy.hpp"
#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::rwkv7<float>);
WEFT_ON_DEVICE(weft::recurrence<leaky_delta, float>);
WEFT_ON_DEVICE(weft::dplr<double>);
WEFT_ON_DEVICE(weft::dplr<weft::bf16>);
WEFT_ON_DEVICE(weft::simple_gla<weft::fp16>);
WEFT_ON_DEVICE(weft::recurrence<weft::gated_delta_policy, float, weft::bf16>);

}  // namespace contract
