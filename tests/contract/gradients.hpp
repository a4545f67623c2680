// The way back of a scan, as the checks of gradients ask for it.
#pragma once
#include "each.hpp"

namespace contract {

using numbers = std::vector<double>;

// Products summed, and summed without their signs: what rounding is measured by. An infinite gate or maximum counts for nothing.
struct weighed {
  double sum = 0, size = 0;

  void add(const numbers& a, const numbers& b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!std::isinf(a[i])) sum += a[i] * b[i], size += std::abs(a[i] * b[i]);
  }
};

// Of a tensor in the given type.
inline numbers random_numbers(index count, element type, dice& d) {
  numbers v(static_cast<std::size_t>(count));
  fill_normal(v, d);
  for (double& x : v) x = rounded(type, x);
  return v;
}

// The parts of a state that are no lengths.
inline std::vector<tensor> real_parts(any_state& s) {
  auto all = s.parts();
  std::erase_if(all, [](const tensor& t) { return t.type == element::i64; });
  return all;
}

// A scan, and gradients of everything that it writes. What it reads is counted through: the inputs, then the parts of the state.
struct scene {
  problem p;
  std::unique_ptr<any_state> start;
  numbers d_o;
  std::vector<numbers> d_state;

  scene(const subject& m, const sizes& s, const style& how, dice& d, bool smooth = false) : p(random_problem(m, s, how, d)) {
    if (smooth) m.smooth(p, d);
    start = random_state(m, p, d.any({start::zero, start::random, start::random}), d);
    index n = 1;
    for (const index e : m.output_extents(p.s)) n *= e;
    d_o = random_numbers(n, m.storage(), d);
    for (const tensor& t : m.state_gradient(*start)->parts()) d_state.push_back(random_numbers(t.size(), m.accumulator(), d));
  }
  scene(const scene& of, const subject& wide)
      : p(retyped(of.p, wide)), start(converted(*of.start, wide.state(of.p.s))), d_o(of.d_o), d_state(of.d_state) {}

  std::size_t inputs() const { return p.fields.size(); }
  std::size_t count() const { return p.fields.size() + d_state.size(); }
  std::string name(std::size_t i) const { return i < inputs() ? std::string(p.fields[i].info.name) : "state " + std::to_string(i - inputs()); }
  numbers read(std::size_t i) const { return i >= inputs() ? real_parts(*start)[i - inputs()].get() : p.fields[i].null ? numbers() : p.fields[i].values; }
  std::unique_ptr<any_state> state_gradient(const subject& m) const {
    auto d = m.state_gradient(*start);
    const auto parts = d->parts();
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].put(d_state[i]);
    return d;
  }
};

struct way_back {
  weft::cpu* on = nullptr;
  index every = 64;
  std::vector<index> cuts = {};
  std::vector<bool> wanted = {};  // by input; all where empty
  bool wide = true;               // gradients of the accumulating type, not of the storage type
  unsigned seed = 1;              // of the layout
};

// A scene in memory that is watched: inputs and gradients with gaps between their rows, an output that a scan may write.
struct stage {
  arguments a;
  std::vector<block> blocks;  // of the inputs' gradients
  std::vector<tensor> d_in;   // without data where not wanted
  block o_memory, d_o_memory;
  tensor o, d_o;
  std::unique_ptr<any_state> state, d_state;

  stage(const subject& m, const scene& s, const way_back& h = {}) : stage(m, s, h, dice(h.seed)) {}
  bool gradients_unchanged() const {
    return std::all_of(blocks.begin(), blocks.end(), [](const block& b) { return b.unchanged(); });
  }

 private:
  stage(const subject& m, const scene& s, const way_back& h, dice d)
      : a(arrange(s.p, layout::padded, d)), blocks(s.inputs()), state(s.start->copy()), d_state(s.state_gradient(m)) {
    for (std::size_t i = 0; i < s.inputs(); ++i) {
      const field& f = s.p.fields[i];
      const element type = h.wide ? m.accumulator() : f.info.type;
      if (f.null || (!h.wanted.empty() && !h.wanted[i])) d_in.push_back({type, nullptr, f.extent, row_major(f.extent)});
      else d_in.push_back(blocks[i].place(type, f.extent, padded_strides(f.info, f.extent, d), d.below(4)));
      blocks[i].keep();
    }
    const element type = h.wide ? m.accumulator() : m.storage();
    const auto extent = m.output_extents(s.p.s);
    const auto stride = padded_strides({"o", false, false, type, m.output_axes()}, extent, d);
    o = o_memory.place(type, extent, stride);
    o_memory.keep();
    d_o = d_o_memory.place(type, extent, stride);
    d_o.put(s.d_o);
  }
};

// The gradients of all that the scan reads, without numbers where not wanted.
inline std::vector<numbers> pull(const subject& m, const scene& s, way_back h = {}) {
  const problem& p = s.p;
  stage c(m, s, h);
  weft::cpu own;
  weft::cpu& on = h.on ? *h.on : own;
  h.cuts.push_back(p.s.time);
  std::vector<weft::tape> tapes(h.cuts.size());
  const auto span = [&](std::size_t n) {
    const index first = n == 0 ? 0 : h.cuts[n - 1];
    return std::pair(first, h.cuts[n] - first);
  };
  for (std::size_t n = 0; n < tapes.size(); ++n) {
    const auto [first, count] = span(n);
    tapes[n].every = h.every;
    m.record(on, piece(c.a.in, p, first, count), *c.state, c.o.slice(1, first, count), tapes[n], p.s.cu);
  }
  std::vector<numbers> g(s.inputs());
  for (std::size_t n = tapes.size(); n-- > 0;) {
    const auto [first, count] = span(n);
    m.vjp(on, piece(c.a.in, p, first, count), tapes[n], c.d_o.slice(1, first, count), *c.d_state, piece(c.d_in, p, first, count));
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (!c.d_in[i].data) continue;
      const numbers before = std::move(g[i]);
      g[i] = c.d_in[i].get();
      if (p.fields[i].info.has(axis::time)) continue;
      for (std::size_t j = 0; j < before.size(); ++j) g[i][j] += before[j];  // one tensor of all pieces
    }
  }
  bool inputs_kept = true, within = true;
  for (const block& b : c.a.blocks) inputs_kept &= b.unchanged();
  for (std::size_t i = 0; i < g.size(); ++i) within &= !c.d_in[i].data || c.blocks[i].unchanged_but(c.d_in[i]);
  CHECK(inputs_kept);
  CHECK(within);
  for (const tensor& t : c.d_state->parts()) g.push_back(t.get());
  return g;
}

inline bool same_gradients(const std::vector<numbers>& a, const std::vector<numbers>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const numbers& x, const numbers& y) { return same(x, y); });
}
inline double largest_gradient(const std::vector<numbers>& g) {
  double top = 0;
  for (const numbers& v : g) top = std::max(top, largest(v));
  return top;
}

}  // namespace contract
