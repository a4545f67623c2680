// Compiled twice: WEFT_SIDE is base or wide.
#include "shared.hpp"

#define WEFT_QUOTE(x) #x
#define WEFT_TEXT(x) WEFT_QUOTE(x)

namespace WEFT_SIDE {
const char* isa() { return WEFT_TEXT(WEFT_ISA); }
state make() { return delta_net{}.state({.batch = 1, .heads = 2, .key_dim = 24, .value_dim = 40}); }
void scan(const tokens& in, state& s, weft::array<float, 4>& o) {
  weft::cpu cpu;
  weft::scan(cpu, delta_net{.qk_l2norm = true}, {.q = in.q, .k = in.k, .v = in.v, .g = in.g, .beta = in.beta}, s, {.o = o});
}
void literal(const tokens& in, state& s, weft::array<float, 4>& o) {
  weft::literal(delta_net{.qk_l2norm = true}, {.q = in.q, .k = in.k, .v = in.v, .g = in.g, .beta = in.beta}, s, {.o = o});
}
}  // namespace WEFT_SIDE
