// Class D.
#include "device_run.cuh"

namespace contract {

WEFT_ON_DEVICE(weft::delta_rule<float>);
WEFT_ON_DEVICE(weft::gated_delta_rule<float>);
WEFT_ON_DEVICE(weft::kda<float>);
WEFT_ON_DEVICE(weft::gdn2<float>);
WEFT_ON_DEVICE(weft::comba<float>);
WEFT_ON_DEVICE(weft::gated_delta_product<float>);

}  // namespace contract
