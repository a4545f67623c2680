#include <weft/core/members.hpp>
struct inputs {
  float a, b, c, d, e, f, g, h, i, j, k, l;
#ifdef WEFT_BAD
  float m;
#endif
};
auto tie(inputs& in) { return weft::tie_members(in); }
