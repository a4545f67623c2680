// P1, P2: every verb against the definition in double, on the same rounded inputs.
#pragma once
#include "each.hpp"

namespace contract {

// R1: 16 eps of the largest number, or R2: at most twice the error of the plainest code, plus 2 eps. A 16-bit tensor is
// rounded once more, by half a unit in its last place. What a delta rule erases leaves its own rounding behind, so there
// the state before the call counts among the numbers; and a reflection (beta = 2) doubles every term of the substitution.
// An output is a sum over the state's rows: what cancels in it was as large as the state.
struct tolerance {
  double epsilon, bound;
  element stored;
  double before = 0;

  static tolerance of(const subject& m, const style& how, element stored, double read, any_state& start) {
    if (!m.keys_erase()) return {m.epsilon(), m.bound, stored, read};
    return {m.epsilon(), (how.betas == betas::two ? 2 : 1) * m.bound, stored, std::max(read, largest(start.values()))};
  }

  void hold(const std::vector<double>& got, const std::vector<double>& plain, const std::vector<double>& exact) const {
    for (const auto* const v : {&got, &plain, &exact}) CHECK(count_nan(*v) == 0);
    const double top = std::max(before, largest(exact)), number = largest(exact);
    const double last_place = half_place(stored);
    const double allowed = std::max(bound * epsilon * top, 2 * largest_difference(plain, exact) + 2 * epsilon * top) + last_place * number;
    CHECK(largest_difference(got, exact) <= allowed);
  }
};

inline void accurate(const subject& m, dice& d) {
  const style how = style::random(d);
  const problem p = random_problem(m, random_sizes(d), how, d);
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim, p.s.cu, static_cast<int>(how.keys), static_cast<int>(how.gates), static_cast<int>(how.betas));
  const auto start = random_state(m, p, d.any({start::zero, start::random, start::random, start::huge}), d);
  const bool wide_output = d.one_in(2);

  const auto reference = m.wide();
  const outcome exact = run(*reference, retyped(p, *reference), *converted(*start, reference->state(p.s)), {.verb = verb::literal});
  const outcome plain = run(m, p, *start, {.verb = verb::literal, .wide_output = wide_output});
  const outcome got = run(m, p, *start, {.layout = d.any({layout::contiguous, layout::padded, layout::fused}), .wide_output = wide_output, .seed = static_cast<unsigned>(d.below(1000))});
  tolerance::of(m, how, wide_output ? m.accumulator() : m.storage(), m.free_state() ? largest(exact.state->values()) : 0, *start).hold(got.o, plain.o, exact.o);
  tolerance::of(m, how, m.state_storage(), 0, *start).hold(got.state->values(), plain.state->values(), exact.state->values());
}

// P3: scan, step and the definition give the same numbers in the mixer's own type. Each is within R1 of the truth.
inline void modes_agree(const subject& m, dice& d) {
  if (!m.causal) return;
  const sizes s = random_sizes(d, false);
  const style how = style::random(d);
  const problem p = random_problem(m, s, how, d);
  CAPTURE(static_cast<int>(how.keys), static_cast<int>(how.gates), static_cast<int>(how.betas));
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim);
  const auto start = random_state(m, p, d.any({start::zero, start::random}), d);
  const outcome literal = run(m, p, *start, {.verb = verb::literal});
  const outcome scan = run(m, p, *start);
  const outcome step = run(m, p, *start, {.verb = verb::step});
  CHECK(apart(m, how, scan, literal, *start) <= 1);
  if (!m.rounds_state()) CHECK(apart(m, how, scan, step, *start) <= 1);
  else CHECK(apart(m, how, run(m, p, *start, {.verb = verb::literal, .cuts = every_token(p.s.time)}), step, *start) <= 1);
}

// P12: where every partial sum is an integer that the type holds, nothing rounds.
inline void integers_are_exact(const subject& given, dice& d) {
  if (!given.exact) return;
  const auto m = given.integral();
  sizes s = random_sizes(d);
  const problem p = integer_problem(*m, s, d);
  CAPTURE(p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim, p.s.cu);
  const auto start = random_state(*m, p, start::integers, d);
  const outcome literal = run(*m, p, *start, {.verb = verb::literal, .wide_output = true});
  const outcome scan = run(*m, p, *start, {.wide_output = true});
  CHECK(same(scan.o, literal.o, false));
  CHECK(same(scan.state->values(), literal.state->values(), false));
  if (!p.s.cu.empty()) return;
  const outcome step = run(*m, p, *start, {.verb = verb::step, .wide_output = true});
  CHECK(same(step.o, literal.o, false));
}

}  // namespace contract
