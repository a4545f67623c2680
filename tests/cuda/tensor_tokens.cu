#include "tensor.cuh"

namespace contract {

WEFT_ON_TENSOR_CORES(weft::gated_delta_rule<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::simple_gla<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::comba<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::mamba2<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::gated_delta_product<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::delta_rule<weft::fp16>);
WEFT_ON_TENSOR_CORES(weft::recurrence<clear_leaky_delta, weft::bf16>);

}  // namespace contract
