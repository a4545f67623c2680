#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::attention<float>);
WEFT_ON_DEVICE(weft::attention<double>);
WEFT_ON_DEVICE(weft::attention<weft::bf16>);

}  // namespace contract
