#include <weft/core/view.hpp>
float element(const weft::view<float, 4>& x) {
#ifdef WEFT_BAD
  return x(0, 1, 2);
#else
  return x(0, 1, 2, 3);
#endif
}
