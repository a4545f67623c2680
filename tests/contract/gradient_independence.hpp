// What gradients may not depend on: workers, layouts, the tape's memory, what else is wanted, tokens and heads that they do not meet.
#pragma once
#include "gradients.hpp"
#include "independence.hpp"

namespace contract {

// One result, however it is asked for.
inline void gradients_are_one(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  const scene s(m, random_sizes(d), style::random(d), d);
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim, s.p.s.cu);
  const auto all = pull(m, s);
  for (const int n : {1, 2, 3, 7, 16}) {
    team pool{n};
    weft::cpu cpu(pool);
    CAPTURE(n);
    CHECK(same_gradients(pull(m, s, {.on = &cpu, .seed = static_cast<unsigned>(n)}), all));
  }
  CHECK(same_gradients(pull(m, s, {.every = 0}), all));  // the default's states, made again
  // Each alone, and none but the state's.
  for (std::size_t i = 0; i <= s.inputs(); ++i) {
    std::vector<bool> wanted(s.inputs());
    if (i < s.inputs()) wanted[i] = true;
    auto expected = all;
    for (std::size_t j = 0; j < s.inputs(); ++j)
      if (j != i) expected[j].clear();
    CAPTURE(i);
    CHECK(same_gradients(pull(m, s, {.wanted = wanted}), expected));
  }
}

// One number among what is read or among the outputs' gradients becomes another, NaN or infinite. Gradients of other sequences and
// of other groups of heads stay; an output's reaches back in time alone. And a NaN of theirs does not get lost.
inline void gradients_are_contained(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  const scene s(m, random_sizes(d), style::random(d), d);
  if (s.d_o.empty()) return;
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim, s.p.s.cu);
  scene hit(s, m);
  const field o{{"d_o", false, false, m.storage(), m.output_axes()}, m.output_extents(s.p.s), {}, false};
  const std::size_t which = static_cast<std::size_t>(d.below(static_cast<index>(s.inputs()) + 1));
  const bool of_output = which == s.inputs();
  const field& f = of_output ? o : s.p.fields[which];
  numbers& values = of_output ? hit.d_o : hit.p.fields[which].values;
  if (f.null || values.empty()) return;
  const index at = d.below(static_cast<index>(values.size()));
  const double poison = d.any({std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), rounded(f.info.type, -0.77)});
  values[static_cast<std::size_t>(at)] = poison;
  const place from = place_of(f, at);
  CAPTURE(f.info.name, poison, from.batch, from.time, from.key_head, from.value_head);

  const auto sequence = [&](const place& x, bool micro) { return x.time < 0 ? index{-1} : sequence_of(s.p.s, x.batch, micro ? x.time / s.p.s.micro : x.time); };
  const auto group = [&](const place& x) { return x.key_head >= 0 ? x.key_head : x.value_head >= 0 ? x.value_head / s.p.s.group : index{-1}; };
  const auto meet = [](index a, index b) { return a < 0 || b < 0 || a == b; };
  const auto before = pull(m, s), after = pull(m, hit);
  index nans = 0;
  for (std::size_t i = 0; i < s.count(); ++i) {
    nans += static_cast<index>(count_nan(after[i]));
    const bool of_state = i >= s.inputs();
    for (std::size_t j = 0; j < after[i].size(); ++j) {
      if (same(before[i][j], after[i][j])) continue;
      bool may;
      if (of_state) {
        may = meet(sequence(from, f.info.micro), static_cast<index>(j / (after[i].size() / static_cast<std::size_t>(s.p.s.sequences()))));
      } else {
        const field& to = s.p.fields[i];
        const place here = place_of(to, static_cast<index>(j));
        may = of_output ? reaches(s.p.s, here, to.info.micro, from, m.causal)
                        : meet(sequence(here, to.info.micro), sequence(from, f.info.micro)) && meet(group(here), group(from));
      }
      if (!may) FAIL("the gradient " << j << " of " << s.name(i) << " saw what it may not");
    }
  }
  if (of_output && std::isnan(poison)) CHECK(nans > 0);
}

}  // namespace contract
