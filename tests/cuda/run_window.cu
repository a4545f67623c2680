#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::attention<float, weft::window>);
WEFT_ON_DEVICE(weft::attention<weft::fp16, weft::window>);

}  // namespace contract
