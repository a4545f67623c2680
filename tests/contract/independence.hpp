// What an output may not depend on: later tokens, other heads and rows, the number of threads, its own address.
#pragma once
#include <atomic>
#include <thread>

#include "each.hpp"

namespace contract {

// Threads made for each region: slow, and enough to test that results do not depend on them.
struct team {
  int count;
  int workers() const { return count; }
  void parallel_for(index n, weft::task_ref f) {
    std::atomic<index> next{0};
    std::vector<std::thread> threads;
    for (int w = 0; w < count; ++w)
      threads.emplace_back([&, w] {
        for (index i; (i = next++) < n;) f(i, w);
      });
    for (auto& t : threads) t.join();
  }
};

// Where an element of an input lies: its position along every axis, -1 where it has none.
struct place {
  index batch = -1, time = -1, key_head = -1, value_head = -1;
};
inline place place_of(const field& f, index at) {
  place p;
  for (std::size_t i = f.extent.size(); i-- > 0;) {
    const index x = at % f.extent[i];
    at /= f.extent[i];
    const axis a = f.info.axes[i];
    if (a == axis::batch) p.batch = x;
    if (a == axis::time) p.time = x;
    if (a == axis::key_head) p.key_head = x;
    if (a == axis::value_head) p.value_head = x;
  }
  return p;
}
inline index sequence_of(const sizes& s, index batch, index time) {
  if (s.cu.empty()) return batch;
  index n = 0;
  while (time >= s.cu[static_cast<std::size_t>(n) + 1]) ++n;
  return n;
}
// Whether an output may see the input at `from`.
inline bool reaches(const sizes& s, const place& from, bool micro, const place& o, bool causal) {
  const index t = micro ? from.time / s.micro : from.time;
  if (from.time >= 0 && ((causal && o.time < t) || sequence_of(s, o.batch, o.time) != sequence_of(s, from.batch, t))) return false;
  if (o.value_head < 0) return true;
  if (from.key_head >= 0) return o.value_head / s.group == from.key_head;
  return from.value_head < 0 || o.value_head / s.group == from.value_head / s.group;
}

// P9, P10: one element becomes another number, NaN or infinity; only what may see it changes. Where the definition has a
// NaN, so has the scan.
inline void poison_is_contained(const subject& m, const problem& p, dice& d) {
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim, p.s.cu);
  std::vector<std::size_t> full;
  for (std::size_t i = 0; i < p.fields.size(); ++i)
    if (!p.fields[i].null && !p.fields[i].values.empty()) full.push_back(i);
  if (full.empty()) return;
  const auto start = random_state(m, p, start::random, d);
  problem q = p;
  field& f = q.fields[full[static_cast<std::size_t>(d.below(static_cast<index>(full.size())))]];
  const index at = d.below(static_cast<index>(f.values.size()));
  const double poison = d.any({std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), rounded(f.info.type, -0.77)});
  f.values[static_cast<std::size_t>(at)] = poison;
  const place from = place_of(f, at);
  CAPTURE(f.info.name, poison, from.batch, from.time, from.key_head, from.value_head);

  const outcome clean = run(m, p, *start), hit = run(m, q, *start), literal = run(m, q, *start, {.verb = verb::literal});
  const field o{{"o", false, false, m.storage(), m.output_axes()}, m.output_extents(p.s), {}, false};
  for (std::size_t i = 0; i < clean.o.size(); ++i) {
    if (!reaches(p.s, from, f.info.micro, place_of(o, static_cast<index>(i)), m.causal) && !same(clean.o[i], hit.o[i])) FAIL("output " << i << " saw what it may not");
    if (std::isnan(literal.o[i]) && std::isfinite(hit.o[i])) FAIL("a NaN became " << hit.o[i] << " in output " << i);
  }
}

inline void contained(const subject& m, dice& d) { poison_is_contained(m, random_problem(m, random_sizes(d), style::random(d), d), d); }

// P16
inline void threads_agree(const subject& m, dice& d) {
  const problem p = random_problem(m, random_sizes(d), style::random(d), d);
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim, p.s.cu);
  const auto start = random_state(m, p, start::random, d);
  const outcome serial = run(m, p, *start);
  for (const int n : {1, 2, 3, 7, 16}) {
    team pool{n};
    weft::cpu cpu(pool);
    CAPTURE(n);
    CHECK(run(m, p, *start, {.on = &cpu}) == serial);
  }
}

// Two executors at once on the same inputs, each with a state of its own.
inline void calls_are_independent(const subject& m, dice& d) {
  const problem p = random_problem(m, random_sizes(d), style::random(d), d);
  const auto start = random_state(m, p, start::random, d);
  const arguments shared = arrange(p, layout::contiguous, d);
  const std::vector<index> extent = m.output_extents(p.s);
  const outcome expected = run(m, p, *start);
  struct caller {
    block memory;
    std::unique_ptr<any_state> state;
    std::vector<double> o;
  } callers[2];
  std::vector<std::thread> threads;
  for (caller& c : callers)
    threads.emplace_back([&] {
      weft::cpu cpu;
      c.state = start->copy();
      const tensor o = c.memory.place(m.storage(), extent, row_major(extent));
      m.run(verb::scan, cpu, shared.in, *c.state, o, p.s.cu);
      c.o = o.get();
    });
  for (auto& t : threads) t.join();
  for (caller& c : callers) CHECK(outcome{c.o, std::move(c.state)} == expected);
}

// The output over an input that allows it: the same numbers. Over any other, or a part: an error that names both.
inline void in_place(const subject& m, dice& d) {
  sizes s = random_sizes(d);
  s.value_dim = s.key_dim;
  const problem p = random_problem(m, s, style::random(d), d);
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.cu);
  const auto start = random_state(m, p, start::random, d);
  const outcome apart = run(m, p, *start);
  const std::vector<index> extent = m.output_extents(p.s);
  for (std::size_t i = 0; i < p.fields.size(); ++i) {
    const field& f = p.fields[i];
    if (f.null || f.extent != extent || f.info.type != m.storage() || f.values.empty()) continue;
    CAPTURE(f.info.name);
    arguments a = arrange(p, d.any({layout::contiguous, layout::padded, layout::fused}), d);
    weft::cpu cpu;
    auto state = start->copy();
    if (m.may_alias(i)) {
      m.run(verb::scan, cpu, a.in, *state, a.in[i], p.s.cu);
      CHECK(outcome{a.in[i].get(), std::move(state)} == apart);
    }
    // Shifted by a token, or over an input that must stay.
    tensor o = a.in[i];
    auto in = a.in;
    if (m.may_alias(i)) {
      if (p.s.time < 3 || !p.s.cu.empty()) continue;
      in = piece(a.in, p, 0, p.s.time - 1);
      o = o.slice(1, 1, p.s.time - 1);
    }
    state = start->copy();
    const auto before = state->values();
    try {
      m.run(verb::scan, cpu, in, *state, o, p.s.cu);
      FAIL("an overlap passed");
    } catch (const weft::error& e) {
      CHECK(e.code() == weft::errc::overlap);
      CHECK(std::string(e.what()).find("weft: o: expected memory apart from " + std::string(f.info.name)) == 0);
    }
    CHECK(same(state->values(), before));
  }
}

}  // namespace contract
