// Short convolution, norms and rotary embedding on the GPU against plain loops on the host; the names of what differs.
#pragma once
#include <string>
#include <vector>

namespace contract {

std::vector<std::string> wrong_layer_calls();

}  // namespace contract
