// In place of cuda/*.cu where there is no nvcc.
#include "device.hpp"
#include "operators.hpp"

namespace ops {

const std::vector<device_answer>& device_answers() {
  static const std::vector<device_answer> none;
  return none;
}
void require_device() { throw no_meaning("weft: --device cuda: this program was compiled without nvcc, for the CPU alone"); }

}  // namespace ops
