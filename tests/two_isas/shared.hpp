// One state between two files that are compiled for different instruction sets.
#pragma once
#include <weft/weft.hpp>

using delta_net = weft::gated_delta_rule<float>;
using state = delta_net::state_type;

struct tokens {
  weft::array<float, 4> q, k, v;
  weft::array<float, 3> g, beta;
};
#define WEFT_FILE(side)                                                     \
  namespace side {                                                          \
  const char* isa();                                                        \
  state make();                                                             \
  void scan(const tokens& in, state& s, weft::array<float, 4>& o);          \
  void literal(const tokens& in, state& s, weft::array<float, 4>& o);       \
  }
WEFT_FILE(base)
WEFT_FILE(wide)
