// A state is a value: a sequence may be cut, kept, copied, moved and saved anywhere.
#pragma once
#include <unistd.h>

#include "each.hpp"

namespace contract {

inline std::vector<index> random_cuts(index time, index grid, dice& d) {
  std::vector<index> cuts;
  for (index t = 0; t <= time; t += grid)
    if (d.one_in(2) && (cuts.empty() || t > cuts.back() || d.one_in(2))) cuts.push_back(t);
  return cuts;
}

// P4: bit-equal on the mixer's grid; anywhere, both are within rounding of the truth. A state that is rounded at every cut is held
// against the definition cut there too.
inline void splits_agree(const subject& m, dice& d) {
  if (!m.causal) return;
  const sizes s = random_sizes(d, false);
  const style how = style::random(d);
  const problem p = random_problem(m, s, how, d);
  CAPTURE(static_cast<int>(how.keys), static_cast<int>(how.gates), static_cast<int>(how.betas));
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim);
  const auto start = random_state(m, p, d.any({start::zero, start::random}), d);
  const outcome whole = run(m, p, *start);
  if (const index grid = m.grid(p.s)) CHECK(run(m, p, *start, {.cuts = random_cuts(p.s.time, grid, d)}) == whole);
  const auto cuts = random_cuts(p.s.time, 1, d);
  const outcome anywhere = run(m, p, *start, {.cuts = cuts});
  if (m.rounds_state()) CHECK(apart(m, how, anywhere, run(m, p, *start, {.verb = verb::literal, .cuts = cuts}), *start) <= 1);
  else CHECK(apart(m, how, anywhere, whole, *start) <= 1);
}

// P7: the second half from a copy, a moved state, a file and gathered rows is bit for bit the second half.
inline void resumes(const subject& m, dice& d) {
  sizes s = random_sizes(d, false);
  const problem p = random_problem(m, s, style::random(d), d);
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim);
  const auto start = random_state(m, p, d.any({start::zero, start::random}), d);
  const auto before = start->values();
  const outcome first = run(m, p, *start);
  CHECK(same(start->values(), before));
  const auto kept = first.state->values();

  problem rest = random_problem(m, s, style::random(d), d);
  rest.s.capacity = p.s.capacity;
  for (std::size_t i = 0; i < rest.fields.size(); ++i) rest.fields[i].null = p.fields[i].null;
  const outcome second = run(m, rest, *first.state);
  CHECK(same(first.state->values(), kept));

  const auto path = std::filesystem::temp_directory_path() / ("weft-contract-" + std::to_string(::getpid()) + ".safetensors");
  first.state->save(path);
  const auto restored = m.restore(path);
  std::filesystem::remove(path);
  CHECK(same(restored->values(), kept));
  CHECK(run(m, rest, *restored) == second);
  const auto copy = first.state->copy();
  const auto moved = copy->move();
  CHECK(run(m, rest, *moved) == second);

  const index n = p.s.batch;
  if (n == 0) return;
  const std::vector<index> rows{n - 1, 0, d.below(n)};
  problem picked = rest;
  picked.s.batch = 3;
  for (std::size_t i = 0; i < picked.fields.size(); ++i) {
    field& f = picked.fields[i];
    if (!f.info.has(axis::batch)) continue;
    f.extent[0] = 3;
    f.values.clear();
    const index row = static_cast<index>(rest.fields[i].values.size()) / n;
    for (const index r : rows) f.values.insert(f.values.end(), rest.fields[i].values.begin() + r * row, rest.fields[i].values.begin() + (r + 1) * row);
  }
  const outcome some = run(m, picked, *first.state->gather(rows));
  const std::size_t row = second.o.size() / static_cast<std::size_t>(n);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t i = 0; i < row; ++i)
      if (!same(some.o[r * row + i], second.o[static_cast<std::size_t>(rows[r]) * row + i])) FAIL("row " << r << " differs at " << i);
}

}  // namespace contract
