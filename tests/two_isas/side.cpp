// Compiled twice: WEFT_SIDE is base or wide.
#include "shared.hpp"

#define WEFT_QUOTE(x) #x
#define WEFT_TEXT(x) WEFT_QUOTE(x)

static void forward(weft::cpu&, const counter&, weft::view<const float, 3> x, state& s, const weft::output<float, 3>&, const weft::layer_call&) {
  s.matrix(0, 0, 0, 0) += static_cast<float>(x.extent[1]);
}

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
weft::any_layer<float> layer() { return weft::erase_type(counter{}); }
void count(weft::any_state& s) {
  weft::cpu cpu;
  weft::array<float, 3> x({1, 3, 1}), y({1, 3, 1});
  weft::scan(cpu, layer(), {.x = x}, s, {.y = y});
}
}  // namespace WEFT_SIDE
