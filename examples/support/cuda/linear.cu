#include "answers.cuh"

namespace ops {

std::vector<device_answer> linear_answers() {
  return mixer_rows<weft::linear_attention<float>, weft::linear_attention_normalised<float>, weft::retention<float>, weft::simple_gla<float>, weft::simple_gla<weft::bf16>,
                    weft::gla<float>, weft::hgrn2<float>, weft::mamba2<float>, weft::rwkv6<float>>();
}

}  // namespace ops
