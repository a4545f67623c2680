#include "device.hpp"

#include <algorithm>

#include "operators.hpp"

namespace ops {

void ask_device(std::type_index type, const void* request) {
  const auto& all = device_answers();
  const auto at = std::find_if(all.begin(), all.end(), [&](const device_answer& a) { return a.request == type; });
  if (at == all.end()) throw no_meaning("weft: --device cuda: this operator has no kernels for a GPU here for numbers of this type");
  at->run(request);
}

[[noreturn]] void refuse_device(const char* why);
void refuse_device(const char* why) { throw no_meaning("weft: --device cuda: no GPU here that weft can use: " + std::string(why)); }

}  // namespace ops
