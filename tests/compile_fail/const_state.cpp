#include "tensors.hpp"
#ifdef WEFT_BAD
void call(tensors& t, const weft::recurrent_state<float>& state) {
#else
void call(tensors& t, weft::recurrent_state<float>& state) {
#endif
  weft::scan(t.cpu, t.mixer, t.in, state, {.o = t.o});
}
