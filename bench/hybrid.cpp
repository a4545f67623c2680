#include <weft/attention/aaren_check.hpp>
#include <weft/backend/cpu/aaren.hpp>
#include <weft/backend/cpu/rat.hpp>
#include <weft/core/verbs.hpp>
#include <weft/hybrid/rat_literal.hpp>

#include <string>

#include "operators.hpp"
#include "sample.hpp"

namespace bench {
namespace {

template <class T>
struct rat_tokens {
  using real = weft::accumulate_t<T>;
  weft::array<T, 4> q, k, v;
  weft::array<real, 4> g;

  rat_tokens(index time, index dim)
      : q(uniform<T, 4>({1, time, heads, dim}, 1)), k(uniform<T, 4>({1, time, heads, dim}, 2)), v(uniform<T, 4>({1, time, heads, dim}, 3)),
        g(uniform<real, 4>({1, time, heads, dim}, 4, -1.0, 0.0)) {}
  typename weft::rat<T>::inputs inputs(index first, index count) const {
    return {.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count), .g = g.view().slice(1, first, count)};
  }
};

template <class T>
struct aaren_tokens {
  using real = weft::accumulate_t<T>;
  weft::array<real, 2> q;
  weft::array<T, 4> k, v;

  aaren_tokens(index time, index dim) : q(uniform<real, 2>({heads, dim}, 1)), k(uniform<T, 4>({1, time, heads, dim}, 2)), v(uniform<T, 4>({1, time, heads, dim}, 3)) {}
  typename weft::aaren<T>::inputs inputs(index first, index count) const {
    return {.q = q.view(), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
  }
};

// Empty where the verb gives what the literal form gives in double, else what differs.
template <class Tokens, class Wide, class Mixer, class WideMixer>
std::string mismatch(const Tokens& in, const Wide& wide, const Mixer& mixer, const WideMixer& reference, weft::cpu& cpu, const point& p) {
  using T = typename Mixer::storage_type;
  const weft::shape shape{.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim, .capacity = check_time};
  auto start = reference.state(shape);
  weft::array<double, 4> expected({1, check_time, heads, p.dim});
  weft::literal(reference, wide.inputs(0, check_time), start, {.o = expected});
  auto state = mixer.state(shape);
  weft::array<T, 4> o({1, check_time, heads, p.dim});
  if (p.verb == verb::scan) weft::scan(cpu, mixer, in.inputs(0, check_time), state, {.o = o});
  else
    for (index t = 0; t < check_time; ++t) weft::step(cpu, mixer, in.inputs(t, 1), state, {.o = o.view().slice(1, t, 1)});
  const double error = relative_error(o.data(), expected.data(), o.size());
  return error > error_bound<T> ? "o differs from the literal form in double by " + std::to_string(error) + " of the largest value" : "";
}

template <class T>
void run_rat(benchmark::State& s, const point& p) {
  const weft::rat<T> mixer;
  workers w(p.threads);
  {
    const rat_tokens<T> in(check_time, p.dim);
    rat_tokens<double> wide(check_time, p.dim);
    wide.q = converted<double>(in.q), wide.k = converted<double>(in.k), wide.v = converted<double>(in.v), wide.g = converted<double>(in.g);
    if (const std::string wrong = mismatch(in, wide, mixer, weft::rat<double>{}, w.cpu(), p); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  }
  const bool decode = p.verb == verb::step;
  const rat_tokens<T> in(decode ? 1 : p.time, p.dim);
  auto state = mixer.state({.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim, .capacity = p.time});
  state.chunks.keys = uniform<weft::accumulate_t<T>, 4>(state.chunks.keys.extent(), 5);
  state.chunks.values = uniform<weft::accumulate_t<T>, 4>(state.chunks.values.extent(), 6);
  weft::array<T, 4> o(in.v.extent());
  const auto row = static_cast<double>(heads * p.dim), recurrence = 8 * row;
  const auto read = [&](index t) { return static_cast<double>(t / mixer.chunk_size + 1); };
  const index first = decode ? p.time - 1 : 0, count = decode ? 1 : p.time;
  work one{.tokens = static_cast<double>(count), .flops = recurrence * static_cast<double>(count)};
  for (index t = first; t < first + count; ++t) one.flops += 4 * row * read(t);
  if (decode) one.bytes = 2 * row * read(first) * sizeof(weft::accumulate_t<T>);
  measure(s, p, one, [&] {
    state.chunks.length(0) = first / mixer.chunk_size;
    state.held(0) = first % mixer.chunk_size;
    if (decode) weft::step(w.cpu(), mixer, in.inputs(0, 1), state, {.o = o});
    else weft::scan(w.cpu(), mixer, in.inputs(0, count), state, {.o = o});
  });
}

template <class T>
void run_aaren(benchmark::State& s, const point& p) {
  const weft::aaren<T> mixer;
  workers w(p.threads);
  {
    const aaren_tokens<T> in(check_time, p.dim);
    aaren_tokens<double> wide(check_time, p.dim);
    wide.q = converted<double>(in.q), wide.k = converted<double>(in.k), wide.v = converted<double>(in.v);
    if (const std::string wrong = mismatch(in, wide, mixer, weft::aaren<double>{}, w.cpu(), p); !wrong.empty()) return s.SkipWithError(wrong.c_str());
  }
  const aaren_tokens<T> in(p.time, p.dim);
  auto state = mixer.state({.batch = 1, .heads = heads, .value_dim = p.dim});
  weft::array<T, 4> o(in.v.extent());
  const auto time = static_cast<double>(p.time), row = static_cast<double>(heads * p.dim);
  work one{.tokens = time, .flops = 6 * row * time};
  if (p.verb == verb::step) {
    one.bytes = 2.0 * static_cast<double>(weft::state_bytes(state));
    measure(s, p, one, [&] { weft::step(w.cpu(), mixer, in.inputs(0, 1), state, {.o = o}); });
  } else {
    measure(s, p, one, [&] { weft::scan(w.cpu(), mixer, in.inputs(0, p.time), state, {.o = o}); });
  }
}

template <class T>
void add_storage() {
  add<T>("rat", {512, 2048, 8192}, run_rat<T>);
  add<T>("aaren", {1}, run_aaren<T>);
}

}  // namespace

void add_hybrid() {
  add_storage<float>();
  add_storage<weft::bf16>();
}

}  // namespace bench
