// What a user writes first: a gated delta rule that stores four values under four keys and reads each back.
#include <weft/weft.hpp>

weft::index extent_of(const weft::view<const float, 4>& x);  // second.cpp: two files of one program include weft

int main() {
  constexpr weft::index T = 4, D = 4;
  weft::array<float, 4> k({1, T, 1, D}), v({1, T, 1, D}), o({1, T, 1, D});
  weft::array<float, 3> g({1, T, 1}), beta({1, T, 1});
  for (weft::index t = 0; t < T; ++t) {
    k(0, t, 0, t) = beta(0, t, 0) = 1;
    for (weft::index j = 0; j < D; ++j) v(0, t, 0, j) = static_cast<float>(10 * t + j);
  }

  weft::cpu cpu;
  weft::gated_delta_rule<float> gdn{.scale = 1.0};
  auto state = gdn.state({.batch = 1, .heads = 1, .key_dim = D, .value_dim = D});
  weft::scan(cpu, gdn, {.q = k, .k = k, .v = v, .g = g, .beta = beta}, state, {.o = o});

  for (weft::index i = 0; i < T * D; ++i)
    if (o.data()[i] != v.data()[i]) return 1;
  return extent_of(o.view()) == T ? 0 : 1;
}
