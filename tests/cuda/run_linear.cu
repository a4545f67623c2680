// Class L with constant decays or none.
#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::linear_attention<float>);
WEFT_ON_DEVICE(weft::linear_attention_normalised<float>);
WEFT_ON_DEVICE(weft::retention<float>);

}  // namespace contract
