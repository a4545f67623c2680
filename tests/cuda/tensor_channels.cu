#include "tensor.cuh"

namespace contract {

WEFT_ON_TENSOR_CORES(weft::kda<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::gla<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::gdn2<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::rwkv7<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::hgrn2<weft::bf16>);
WEFT_ON_TENSOR_CORES(weft::rwkv6<weft::bf16>);

}  // namespace contract
