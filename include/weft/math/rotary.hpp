// The angles of rotary position embedding (RoFormer, arXiv 2104.09864).
#pragma once
#include <cmath>

#include "../core/view.hpp"

namespace weft {
inline namespace v1 {

// Radians a position of the channel pair that begins at the even channel i of `dim`: base^(-i / dim).
inline double rotary_frequency(index i, index dim, double base) { return std::pow(base, -static_cast<double>(i) / static_cast<double>(dim)); }

}  // namespace v1
}  // namespace weft
