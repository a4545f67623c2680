#include "answers.cuh"

namespace ops {

std::vector<device_answer> delta_answers() {
  return mixer_rows<weft::delta_rule<float>, weft::gated_delta_rule<float>, weft::gated_delta_rule<weft::bf16>, weft::kda<float>, weft::kda<weft::bf16>, weft::gdn2<float>>();
}

}  // namespace ops
