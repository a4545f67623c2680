#include <weft/layer/attention_layer_vjp.hpp>

#include "layer_problem.hpp"

TEST_CASE("gradients of attention layers: norms, rotary, gate, sinks, window and soft cap") {
  using weft::index;
  using L = weft::attention_layer<double>;
  const bool rich = GENERATE(false, true), packed = GENERATE(false, true), windowed = GENERATE(false, true);
  const index hidden = 5, heads = 4, key_heads = 2, dim = 4, before = 3;
  test::layer_problem<L> p;
  L& l = p.layer;
  l.options = {.heads = heads, .key_heads = key_heads, .head_dim = dim, .window = windowed ? 4 : 0, .scale = 0.5, .softcap = rich ? 2.0 : 0.0, .norm_eps = 1e-3,
               .frequencies = weft::rotary_frequencies(rich ? 2 : 4, 100.0), .rotary_factor = rich ? 1.2 : 1.0};
  l.q = test::random_projection(heads * dim, hidden, 1, rich);
  l.k = test::random_projection(key_heads * dim, hidden, 2, rich);
  l.v = test::random_projection(key_heads * dim, hidden, 3, rich);
  l.out = test::random_projection(hidden, heads * dim, 4);
  if (rich) {
    l.gate = test::random_projection(heads * dim, hidden, 5);
    l.q_norm = test::normal<double, 1>({dim}, 6, 0.5);
    l.k_norm = test::normal<double, 1>({dim}, 7, 0.5);
    l.sinks = test::normal<double, 1>({heads}, 8);
  }
  const index sequences = 2, time = packed ? 9 : 6;
  p.x = test::normal<double, 3>({packed ? 1 : sequences, time, hidden}, 9);
  p.d_y = test::normal<double, 3>(p.x.extent(), 10);
  if (packed) p.cu = {0, 4, time};
  p.start = l.state({.batch = sequences, .capacity = 16});
  weft::cpu executor;  // tokens came before
  const auto earlier = test::normal<double, 3>({sequences, before, hidden}, 11);
  weft::array<double, 3> unread(earlier.extent());
  weft::scan(executor, l, {.x = earlier}, p.start, {.y = unread});
  p.d_end = L::state_gradient(p.start);
  test::fill(p.d_end, 12);
  for (index s = 0; s < sequences; ++s)  // of the slots that hold a token in the end
    for (index h = 0; h < key_heads; ++h)
      for (index slot = before + (!packed || s == 0 ? 0 : 1) + (packed ? 4 : time); slot < p.start.capacity(); ++slot)
        for (index i = 0; i < dim; ++i) p.d_end.keys(s, h, slot, i) = p.d_end.values(s, h, slot, i) = 0;
  test::check_layer(p);
}
