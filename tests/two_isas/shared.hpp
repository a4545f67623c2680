// One state between two files that are compiled for different instruction sets.
#pragma once
#include <weft/layer/any_layer.hpp>
#include <weft/weft.hpp>

using delta_net = weft::gated_delta_rule<float>;
using state = delta_net::state_type;

// A layer around it that only counts tokens in the state; what the files share is its state behind one type.
struct counter {
  using storage_type = float;
  using inputs = weft::hidden_inputs<float>;
  using outputs = weft::hidden_outputs<float>;
  using state_type = delta_net::state_type;
  weft::index hidden() const { return 1; }
  state_type state(const weft::shape& s) const { return delta_net{}.state({.batch = s.batch, .heads = 1, .key_dim = 1, .value_dim = 1}); }
  void check_state(const state_type&, weft::index) const {}
};

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
  weft::any_layer<float> layer();                                           \
  void count(weft::any_state& s);                                           \
  }
WEFT_FILE(base)
WEFT_FILE(wide)
