// P15: gradients against differences of the definition, against the same in double, and against those of other pieces.
#pragma once
#include "gradients.hpp"
#include "state.hpp"

namespace contract {

// What the definition writes where everything is moved by `step` times `along`, weighed with its gradients.
inline weighed moved(const subject& m, const scene& s, const std::vector<numbers>& along, double step) {
  problem p = s.p;
  const auto start = s.start->copy();
  const auto parts = real_parts(*start);
  for (std::size_t i = 0; i < s.count(); ++i) {
    if (along[i].empty()) continue;
    numbers v = s.read(i);
    for (std::size_t j = 0; j < v.size(); ++j) v[j] += step * along[i][j];
    if (i < s.inputs()) p.fields[i].values = std::move(v);
    else parts[i - s.inputs()].put(v);
  }
  const outcome r = run(m, p, *start, {.verb = verb::literal});
  weighed w;
  w.add(r.o, s.d_o);
  const auto after = real_parts(*r.state);
  for (std::size_t i = 0; i < s.d_state.size(); ++i) w.add(after[i].get(), s.d_state[i]);
  return w;
}

// A direction for one of the things that a scan reads. What is infinite stays so; a cache is moved where it holds something.
inline numbers random_direction(const subject& m, const scene& s, std::size_t i, dice& d) {
  const numbers at = s.read(i);
  numbers v = random_numbers(static_cast<index>(at.size()), element::f64, d);
  for (std::size_t j = 0; j < v.size(); ++j)
    if (std::isinf(at[j]) || (at[j] == 0 && i >= s.inputs() && !m.free_state())) v[j] = 0;
  return v;
}

// Central differences of one and two steps, extrapolated; wrong by far less than a hundredth of what the two differ by, and by
// what rounding leaves of a difference: that of the results, and that of what was moved.
inline void follows(const subject& m, const scene& s, const std::vector<numbers>& g, const std::vector<numbers>& along) {
  const double step = 1e-5;
  const auto slope = [&](double by) { return (moved(m, s, along, by).sum - moved(m, s, along, -by).sum) / (2 * by); };
  const double one = slope(step), two = slope(2 * step), expected = one + (one - two) / 3;
  weighed said, size = moved(m, s, along, step);
  for (std::size_t i = 0; i < s.count(); ++i) {
    if (along[i].empty()) continue;
    said.add(along[i], g[i]);
    size.add(s.read(i), g[i]);
  }
  const double allowed = 0.01 * std::abs(one - two) + 16 * 0x1p-52 * (size.size / step + said.size);
  CAPTURE(said.sum, expected, one - two, allowed);
  CHECK(std::abs(said.sum - expected) <= allowed);
}

// Of every input and every part of the state by itself, and of all at once.
inline void follows_differences(const subject& given, const sizes& size, dice& d) {
  const auto m = given.wide();
  const style how = style::random(d);
  const scene s(*m, size, how, d, true);
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim, s.p.s.cu, static_cast<int>(how.keys), static_cast<int>(how.gates),
          static_cast<int>(how.betas));
  const auto g = pull(*m, s, {.every = d.any<index>({0, 16, 64, 1000})});
  std::vector<numbers> everywhere(s.count());
  for (std::size_t i = 0; i < s.count(); ++i) {
    CAPTURE(s.name(i));
    CHECK(std::all_of(g[i].begin(), g[i].end(), [](double x) { return std::isfinite(x); }));
    std::vector<numbers> one(s.count());
    one[i] = everywhere[i] = random_direction(*m, s, i, d);
    if (!one[i].empty()) follows(*m, s, g, one);
  }
  follows(*m, s, g, everywhere);
}
inline void gradients_are_differences(const subject& m, dice& d) {
  if (m.has_gradients()) follows_differences(m, random_sizes(d), d);
}
// Nothing, one token, and sequences without tokens.
inline void gradients_at_the_edges(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  sizes s;
  s.key_dim = 5, s.value_dim = 9, s.heads = 2, s.group = d.any<index>({1, 2});
  for (const index batch : {1, 2})
    for (const index time : {0, 1}) {
      s.batch = batch, s.time = time;
      follows_differences(m, s, d);
    }
  s.batch = 1, s.time = 37, s.cu = {0, 0, 1, 34, 34, 37, 37};
  follows_differences(m, s, d);
  s.time = 0, s.cu = {0, 0, 0};
  follows_differences(m, s, d);
  s.cu.clear(), s.batch = 0, s.time = 3;
  follows_differences(m, s, d);
}

// <A x, d> = <x, A^T d> in double, with what the mixer is linear in: one part more of it gives A x more.
inline void gradients_are_adjoint(const subject& given, dice& d) {
  if (!given.has_gradients()) return;
  const auto m = given.wide();
  const scene s(*m, random_sizes(d), style::random(d), d);
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim, s.p.s.cu);
  const auto g = pull(*m, s);
  for (std::size_t i = 0; i < s.count(); ++i) {
    if (i < s.inputs() ? s.name(i) != m->linear : i > s.inputs() || !m->linear_state()) continue;
    std::vector<numbers> itself(s.count());
    itself[i] = s.read(i);
    const weighed once = moved(*m, s, itself, 0), twice = moved(*m, s, itself, 1);
    weighed back;
    back.add(itself[i], g[i]);
    CAPTURE(s.name(i), once.sum, twice.sum, back.sum);
    CHECK(std::abs(twice.sum - once.sum - back.sum) <= 16 * 0x1p-52 * (twice.size + once.size + back.size));
  }
}

// R1 for gradients: 32 eps of the largest among all of one call, against double of the same rounded numbers. No tensor has a
// measure of its own: what decays of e^-60 or sums that cancel leave is made of numbers as large as the other gradients are.
inline void gradients_are_accurate(const subject& m, dice& d) {
  if (!m.has_gradients() || m.selects) return;
  const style how = style::random(d);
  const scene s(m, random_sizes(d), how, d);
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim, s.p.s.cu, static_cast<int>(how.keys), static_cast<int>(how.gates),
          static_cast<int>(how.betas));
  const bool wide = d.one_in(2);
  const auto reference = m.wide();
  const auto got = pull(m, s, {.wide = wide}), exact = pull(*reference, scene(s, *reference));
  const double rounding = (how.betas == betas::two ? 64 : 32) * m.epsilon() * largest_gradient(exact);  // a reflection doubles every term
  for (std::size_t i = 0; i < s.count(); ++i) {
    CAPTURE(s.name(i));
    CHECK(count_nan(got[i]) == 0);
    const double last_place = wide || i >= s.inputs() ? 0 : half_place(s.p.fields[i].info.type);
    CHECK(largest_difference(got[i], exact[i]) <= rounding + last_place * largest(exact[i]));
  }
}

// A sequence in pieces goes back through its pieces' tapes with one gradient of the state, whatever these kept. States that were
// not kept are carried over smaller chunks than the scan's, so there is rounding between the two; in double it is small.
inline void gradients_of_pieces_are_those_of_the_whole(const subject& given, dice& d) {
  if (!given.has_gradients() || !given.causal) return;
  const auto m = given.wide();
  const scene s(*m, random_sizes(d, false), style::random(d), d);
  CAPTURE(s.p.s.batch, s.p.s.time, s.p.s.heads, s.p.s.group, s.p.s.key_dim, s.p.s.value_dim);
  const auto whole = pull(*m, s);
  for (const way_back& h : {way_back{.every = d.any<index>({0, 16, 64, 1000}), .cuts = random_cuts(s.p.s.time, 1, d)}, way_back{.every = 16}, way_back{.every = 1000}}) {
    const auto other = pull(*m, s, h);
    CAPTURE(h.every, h.cuts);
    for (std::size_t i = 0; i < s.count(); ++i) CHECK(largest_difference(whole[i], other[i]) <= 1e-13 * largest_gradient(whole));
  }
}

}  // namespace contract
