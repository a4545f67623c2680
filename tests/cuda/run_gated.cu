// Class L with decays that depend on the token.
#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::gla<float>);
WEFT_ON_DEVICE(weft::simple_gla<float>);
WEFT_ON_DEVICE(weft::hgrn2<float>);
WEFT_ON_DEVICE(weft::rwkv6<float>);
WEFT_ON_DEVICE(weft::mamba2<float>);

}  // namespace contract
