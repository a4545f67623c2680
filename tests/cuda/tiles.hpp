// Each instruction of the tile layer and each operand, run by a warp and compared with plain loops; the names of those that
// differ.
#pragma once
#include <string>
#include <vector>

namespace contract {

std::vector<std::string> wrong_tiles();

}  // namespace contract
