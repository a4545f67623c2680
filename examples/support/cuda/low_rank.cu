#include "answers.cuh"

namespace ops {

std::vector<device_answer> low_rank_answers() {
  return mixer_rows<weft::rwkv7<float>, weft::dplr<float>, weft::comba<float>, weft::gated_delta_product<float>>();
}

}  // namespace ops
