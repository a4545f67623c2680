#include "tensors.hpp"
void call(tensors& t) {
#ifdef WEFT_BAD
  weft::scan(t.cpu, t.q, {.q = t.q}, t.state, {.o = t.o});
#else
  weft::scan(t.cpu, t.mixer, t.in, t.state, {.o = t.o});
#endif
}
