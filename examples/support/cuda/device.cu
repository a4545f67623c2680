#include "answers.cuh"

namespace ops {

[[noreturn]] void refuse_device(const char* why);  // where exceptions of the host's headers are known

weft::cuda& device() {
  static weft::cuda gpu;
  return gpu;
}

void require_device() {
  try {
    device();
  } catch (const weft::error& e) {
    refuse_device(e.what());
  }
}

const std::vector<device_answer>& device_answers() {
  static const std::vector<device_answer> all = [] {
    std::vector<device_answer> list;
    for (auto table : {linear_answers, delta_answers, low_rank_answers, attention_answers, layer_answers}) {
      const auto rows = table();
      list.insert(list.end(), rows.begin(), rows.end());
    }
    return list;
  }();
  return all;
}

}  // namespace ops
