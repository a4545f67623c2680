#include "answers.cuh"

namespace ops {

std::vector<device_answer> attention_answers() {
  using weft::attention, weft::window, weft::bf16;
  return mixer_rows<attention<float>, attention<double>, attention<bf16>, attention<float, window>, attention<double, window>, attention<bf16, window>>();
}

}  // namespace ops
