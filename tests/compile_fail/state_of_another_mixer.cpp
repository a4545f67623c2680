#include "tensors.hpp"
void call(tensors& t) {
#ifdef WEFT_BAD
  auto state = weft::gated_delta_rule<double>{}.state({.batch = 1, .heads = 1, .key_dim = 4, .value_dim = 4});
#else
  auto state = weft::gated_delta_rule<float>{}.state({.batch = 1, .heads = 1, .key_dim = 4, .value_dim = 4});
#endif
  weft::scan(t.cpu, t.mixer, t.in, state, {.o = t.o});
}
