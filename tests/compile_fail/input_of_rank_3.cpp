#include "tensors.hpp"
void call(tensors& t) {
#ifdef WEFT_BAD
  t.in.q = t.g.view();
#else
  t.in.q = t.q.view();
#endif
}
