// A random call for a subject, and the state that it starts from.
#pragma once
#include "call.hpp"

namespace contract {

inline field* decay_of(problem& p) { return p.find("g"); }

inline problem random_problem(const subject& m, sizes s, const style& how, dice& d) {
  problem p{std::move(s), {}};
  m.size(p.s, d);
  for (std::size_t i = 0; i < m.inputs(); ++i) {
    field f{m.info(i), {}, {}, false};
    f.extent = p.s.extents(f.info);
    index n = 1;
    for (const index e : f.extent) n *= e;
    f.values.resize(static_cast<std::size_t>(n));
    const std::string_view name = f.info.name;
    if (name == "g") fill_decays(f.values, how.gates, d);
    else if (name == "beta" || name == "b" || name == "w") fill_betas(f.values, how.betas, d);
    else if (f.info.has(axis::key_dim) && f.info.has(axis::key_head)) fill_keys(f, name == "q" ? keys::normalised : how.keys, d);
    else fill_normal(f.values, d);
    f.null = f.info.optional && d.one_in(3);
    p.fields.push_back(std::move(f));
  }
  m.adapt(p, d);
  for (field& f : p.fields) f.round();
  return p;
}

// Integers whose sums are exact: decays keep all or nothing, keys of a delta rule are unit vectors.
inline problem integer_problem(const subject& m, sizes s, dice& d) {
  problem p = random_problem(m, std::move(s), {keys::orthogonal, gates::zero, betas::one}, d);
  for (field& f : p.fields) {
    const std::string_view name = f.info.name;
    if (name == "g") {
      for (double& x : f.values)
        if (d.one_in(9)) x = -std::numeric_limits<double>::infinity();
    } else if (!m.keys_erase() || name == "q" || !f.info.has(axis::key_dim)) {
      if (name != "beta" && name != "b" && name != "w") fill_integers(f.values, d);
    }
  }
  m.adapt(p, d);
  for (field& f : p.fields) f.round();
  return p;
}

enum class start { zero, random, huge, integers };

inline std::unique_ptr<any_state> random_state(const subject& m, const problem& p, start kind, dice& d) {
  auto s = m.state(p.s);
  if (kind == start::zero) return s;
  if (!m.free_state()) {  // what a prefix left
    if (p.s.cu.empty() && p.s.batch > 0) {
      sizes prefix = p.s;
      prefix.time = 1 + d.below(35);
      problem before = random_problem(m, prefix, {}, d);
      before.s.capacity = p.s.capacity;
      return run(m, before, *s, {.verb = verb::literal}).state;
    }
    return s;
  }
  index n = 0;
  for (const tensor& t : s->parts()) {
    std::vector<double> v(static_cast<std::size_t>(t.size()));
    if (kind == start::integers) fill_integers(v, d);
    else fill_normal(v, d);
    for (double& x : v) {
      if (kind == start::huge) x *= t.type == element::fp16 ? 1e3 : 1e6;
      if (n > 0) x = std::abs(x);  // a normaliser is a sum of positive numbers
    }
    t.put(v);
    ++n;
  }
  return s;
}

// The same numbers in the state of another storage type.
inline std::unique_ptr<any_state> converted(any_state& from, std::unique_ptr<any_state> to) {
  const auto a = from.parts(), b = to->parts();
  for (std::size_t i = 0; i < a.size(); ++i) b[i].put(a[i].get());
  return to;
}

// The fields of a problem with the element types of another subject.
inline problem retyped(problem p, const subject& m) {
  for (std::size_t i = 0; i < p.fields.size(); ++i) p.fields[i].info = m.info(i);
  return p;
}

}  // namespace contract
