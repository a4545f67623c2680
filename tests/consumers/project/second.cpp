#include <weft/weft.hpp>

weft::index extent_of(const weft::view<const float, 4>& x) { return x.extent[1]; }
