#include "tensors.hpp"
void call(tensors& t, weft::array<double, 4>& q) {
#ifdef WEFT_BAD
  weft::scan(t.cpu, t.mixer, {.q = q, .k = t.q, .v = t.v, .g = t.g, .beta = t.g}, t.state, {.o = t.o});
#else
  weft::scan(t.cpu, t.mixer, {.q = t.q, .k = t.q, .v = t.v, .g = t.g, .beta = t.g}, t.state, {.o = t.o});
  static_cast<void>(q);
#endif
}
