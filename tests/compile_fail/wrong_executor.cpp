#include "tensors.hpp"
void call(tensors& t) {
#ifdef WEFT_BAD
  int threads = 4;
  weft::scan(threads, t.mixer, t.in, t.state, {.o = t.o});
#else
  weft::scan(t.cpu, t.mixer, t.in, t.state, {.o = t.o});
#endif
}
