// Gradients of RAT and Aaren against central differences in double, through pieces, and by any number of workers.
#include <thread>

#include "common.hpp"

namespace hybrid {
namespace {

// sum of w . x over everything that a scan writes, as a function of one number of what it read.
template <class F>
double slope(double& x, F&& loss) {
  const double kept = x, step = 1e-5;
  x = kept + step;
  const double up = loss();
  x = kept - step;
  const double down = loss();
  x = kept;
  return (up - down) / (2 * step);
}
template <class Array>
double dot(const Array& a, const Array& b) {
  double sum = 0;
  for (index i = 0; i < a.size(); ++i) sum += a.data()[i] * b.data()[i];
  return sum;
}
// Every `stride`-th number of an input against its gradient.
template <class Array, class F>
void compare(Array& x, const Array& gradient, index stride, F&& loss) {
  double worst = 0;
  for (index i = 0; i < x.size(); i += stride) worst = std::max(worst, test::difference(slope(x.data()[i], loss), gradient.data()[i]));
  CHECK(worst < 2e-8);
}

struct team {
  int count;
  int workers() const { return count; }
  void parallel_for(index n, weft::task_ref f) {
    std::vector<std::thread> threads;
    for (int w = 0; w < count; ++w)
      threads.emplace_back([&, w] {
        for (index i = w; i < n; i += count) f(i, w);
      });
    for (auto& t : threads) t.join();
  }
};

struct rat_gradients {
  weft::array<double, 4> q, k, v, g;
  explicit rat_gradients(const rat_problem<double>& p) : q(p.q.extent()), k(p.k.extent()), v(p.v.extent()), g(p.g.extent()) {}
  weft::rat<double>::gradients views(index first, index count) {
    return {.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count), .g = g.view().slice(1, first, count)};
  }
};

}  // namespace

TEST_CASE("gradients of RAT are its central differences, those of the state included") {
  for (const index chunk : {1, 3, 8, 100}) {
    CAPTURE(chunk);
    const index time = 21, held = chunk > 2 ? 2 : 0;
    rat_problem<double> p(2, time, 2, 4, 6);
    const weft::rat<double> mixer{.chunk_size = chunk, .rope_base = chunk == 8 ? 0.0 : 20.0};
    auto start = mixer.state(p.shape(3 * chunk));
    weft::for_each_part(start, [](const auto& part) {
      for (index i = 0; i < part.data.size(); ++i)
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(*part.data.data())>, double>) part.data.data()[i] = std::sin(static_cast<double>(3 * i + 1));
    });
    for (index n = 0; n < 2; ++n) start.chunks.length(n) = n + 1, start.held(n) = held;
    const auto w = random<double>({2, time, 4, 6}, 11);
    weft::rat_gradient<double> d_state(start);
    unsigned seed = 20;
    weft::for_each_part(d_state, [&](const auto& part) {
      std::mt19937 engine(seed++);
      for (index i = 0; i < part.data.size(); ++i) part.data.data()[i] = std::uniform_real_distribution<double>(-1, 1)(engine);
    });
    // Slots without a finished chunk at the end are no part of the state.
    for (index n = 0; n < 2; ++n)
      for (index c = n + 1 + (held + time) / chunk; c < start.chunks.capacity(); ++c)
        for (index h = 0; h < 4; ++h)
          for (index i = 0; i < 6; ++i) d_state.chunk_keys(n, h, c, i) = d_state.chunk_values(n, h, c, i) = 0;
    const weft::rat_gradient<double> d_end = d_state;
    weft::cpu cpu;
    const auto loss = [&] {
      auto state = start;
      weft::array<double, 4> o(p.o.extent());
      weft::literal(mixer, p.inputs(), state, {.o = o});
      return dot(w, o) + dot(d_end.key, state.key) + dot(d_end.value, state.value) + dot(d_end.chunk_keys, state.chunks.keys) +
             dot(d_end.chunk_values, state.chunks.values);
    };
    auto state = start;
    rat_gradients d(p);
    weft::tape tape;
    weft::scan(cpu, mixer, p.inputs(), state, {.o = p.o}, tape);
    weft::vjp(cpu, mixer, p.inputs(), tape, {.o = w}, d_state, d.views(0, time));
    compare(p.q, d.q, 7, loss);
    compare(p.k, d.k, 7, loss);
    compare(p.v, d.v, 11, loss);
    compare(p.g, d.g, 11, loss);
    if (held > 0) {  // else the next token begins a chunk, and the pair is not read
      compare(start.key, d_state.key, 5, loss);
      compare(start.value, d_state.value, 5, loss);
    }
    for (index n = 0; n < 2; ++n)
      for (index c = 0; c <= n; ++c) {
        CHECK(std::abs(slope(start.chunks.keys(n, 1, c, 3), loss) - d_state.chunk_keys(n, 1, c, 3)) < 2e-8);
        CHECK(std::abs(slope(start.chunks.values(n, 2, c, 4), loss) - d_state.chunk_values(n, 2, c, 4)) < 2e-8);
      }

    // In pieces, back through one d_state; and by three workers.
    rat_gradients cut(p), threads(p);
    auto pieces = start;
    weft::rat_gradient<double> d_pieces = d_end, d_threads = d_end;
    weft::tape first, second;
    weft::array<double, 4> o(p.o.extent());
    weft::scan(cpu, mixer, p.inputs(0, 9), pieces, {.o = o.view().slice(1, 0, 9)}, first);
    weft::scan(cpu, mixer, p.inputs(9, 12), pieces, {.o = o.view().slice(1, 9, 12)}, second);
    weft::vjp(cpu, mixer, p.inputs(9, 12), second, {.o = w.view().slice(1, 9, 12)}, d_pieces, cut.views(9, 12));
    weft::vjp(cpu, mixer, p.inputs(0, 9), first, {.o = w.view().slice(1, 0, 9)}, d_pieces, cut.views(0, 9));
    for (auto [a, b] : {std::pair{&cut.q, &d.q}, {&cut.k, &d.k}, {&cut.v, &d.v}, {&cut.g, &d.g}}) CHECK(largest_difference(*a, *b) < 1e-13);
    team three{3};
    weft::cpu parallel(three);
    weft::vjp(parallel, mixer, p.inputs(), tape, {.o = w}, d_threads, threads.views(0, time));
    for (auto [a, b] : {std::pair{&threads.q, &d.q}, {&threads.k, &d.k}, {&threads.v, &d.v}, {&threads.g, &d.g}}) CHECK(same_bits(*a, *b));
    CHECK(same_states(d_threads, d_state));
  }
}

TEST_CASE("gradients of Aaren are its central differences, those of the state included") {
  const index time = 17;
  auto q = random<double>({3, 5}, 1, -2, 2);
  auto k = random<double>({2, time, 3, 5}, 2), v = random<double>({2, time, 3, 7}, 3);
  const auto w = random<double>({2, time, 3, 7}, 4);
  const weft::aaren<double> mixer;
  for (const double top : {-1.0, 6.0}) {  // a maximum among the scores, or before them
    weft::aaren_state<double> start{random<double>({2, 3}, 5, top, top + 0.5), random<double>({2, 3}, 6, 0.5, 2), random<double>({2, 3, 7}, 7)};
    const weft::aaren_state<double> d_end{random<double>({2, 3}, 8), random<double>({2, 3}, 9), random<double>({2, 3, 7}, 10)};
    const auto inputs = [&](index first, index count) -> weft::aaren<double>::inputs {
      return {.q = q.view(), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
    };
    const auto loss = [&] {
      auto state = start;
      weft::array<double, 4> o(v.extent());
      weft::literal(mixer, inputs(0, time), state, {.o = o});
      return dot(w, o) + dot(d_end.m, state.m) + dot(d_end.c, state.c) + dot(d_end.a, state.a);
    };
    weft::cpu cpu;
    auto state = start, d_state = d_end;
    weft::array<double, 4> o(v.extent()), dk(k.extent()), dv(v.extent()), cut_k = dk, cut_v = dv;
    weft::array<double, 2> dq(q.extent()), first_q = dq, second_q = dq;
    weft::tape tape;
    weft::scan(cpu, mixer, inputs(0, time), state, {.o = o}, tape);
    weft::vjp(cpu, mixer, inputs(0, time), tape, {.o = w}, d_state, {.q = dq, .k = dk, .v = dv});
    compare(q, dq, 1, loss);
    compare(k, dk, 3, loss);
    compare(v, dv, 5, loss);
    compare(start.m, d_state.m, 1, loss);
    compare(start.c, d_state.c, 1, loss);
    compare(start.a, d_state.a, 2, loss);

    auto pieces = start, d_pieces = d_end;
    weft::tape first, second;
    weft::scan(cpu, mixer, inputs(0, 6), pieces, {.o = o.view().slice(1, 0, 6)}, first);
    weft::scan(cpu, mixer, inputs(6, 11), pieces, {.o = o.view().slice(1, 6, 11)}, second);
    weft::vjp(cpu, mixer, inputs(6, 11), second, {.o = w.view().slice(1, 6, 11)}, d_pieces, {.q = second_q, .k = cut_k.view().slice(1, 6, 11), .v = cut_v.view().slice(1, 6, 11)});
    weft::vjp(cpu, mixer, inputs(0, 6), first, {.o = w.view().slice(1, 0, 6)}, d_pieces, {.q = first_q, .k = cut_k.view().slice(1, 0, 6), .v = cut_v.view().slice(1, 0, 6)});
    CHECK(largest_difference(cut_k, dk) < 1e-13);
    CHECK(largest_difference(cut_v, dv) < 1e-13);
    CHECK(largest_difference(d_pieces.a, d_state.a) < 1e-13);
    for (index i = 0; i < dq.size(); ++i) first_q.data()[i] += second_q.data()[i];
    CHECK(largest_difference(first_q, dq) < 1e-12);
  }
}

TEST_CASE("a gradient that cannot be is refused, and nothing is written") {
  const rat_problem<double> p(1, 9, 1, 1, 4), other(1, 8, 1, 1, 4);
  const weft::rat<double> mixer{.chunk_size = 4}, coarser{.chunk_size = 8};
  weft::cpu cpu;
  auto state = mixer.state(p.shape(99));
  weft::rat_gradient<double> d_state(state);
  weft::array<double, 4> o(p.o.extent()), dv(p.v.extent());
  weft::tape tape;
  const auto vjp = [&](const weft::rat<double>& m, const rat_problem<double>& q, const weft::rat<double>::gradients& d) {
    weft::vjp(cpu, m, q.inputs(), tape, {.o = o}, d_state, d);
  };
  CHECK(refusal(weft::errc::value, [&] { vjp(mixer, p, {.v = dv}); }) == "weft: tape: expected one filled by a scan of this mixer, got an empty one");
  weft::scan(cpu, mixer, p.inputs(), state, {.o = o}, tape);
  CHECK(refusal(weft::errc::value, [&] { vjp(mixer, other, {}); }).starts_with("weft: tape: expected one of a scan over [1, 8, 1, 1, 4]"));
  CHECK(refusal(weft::errc::value, [&] { vjp(coarser, p, {.v = dv}); }).find("chunk_size") != std::string::npos);
  CHECK(refusal(weft::errc::shape, [&] { vjp(mixer, p, {.v = dv.view().slice(1, 0, 8)}); }) == "weft: d_v: expected [1, 9, 1, 4], got [1, 8, 1, 4]");
  CHECK(refusal(weft::errc::overlap, [&] { vjp(mixer, p, {.q = dv, .v = dv}); }).starts_with("weft: d_v: expected memory apart from the other gradients"));
  d_state.key = weft::array<double, 3>({1, 1, 5});
  CHECK(refusal(weft::errc::shape, [&] { vjp(mixer, p, {.v = dv}); }).starts_with("weft: d_state:"));
  CHECK(dot(dv, dv) == 0);
}

TEST_CASE("gradients of a gated sum: of what its parts share, and of their weights") {
  using local = weft::attention<double, weft::window>;
  const index time = 12;
  auto q = random<double>({2, time, 4, 5}, 1), k = random<double>({2, time, 2, 5}, 2), v = random<double>({2, time, 2, 6}, 3), weights = random<double>({2, time, 4, 3}, 4);
  const auto w = random<double>({2, time, 4, 6}, 5);
  const auto three = weft::gated_sum(local{.select = {.window = 3}}, local{.select = {.window = 9}}, local{.select = {.window = 1}});
  const auto start = three.state({.batch = 2, .heads = 2, .key_dim = 5, .value_dim = 6});
  const auto inputs = [&] { return decltype(three)::inputs{.parts = {.q = q, .k = k, .v = v}, .weights = weights}; };
  weft::array<double, 4> o(w.extent()), d_q(q.extent()), d_k(k.extent()), d_v(v.extent()), d_weights(weights.extent());
  const auto loss = [&] {
    auto state = start;
    weft::literal(three, inputs(), state, {.o = o});
    return dot(w, o);
  };
  weft::cpu cpu;
  weft::tape tape;
  auto state = start;
  weft::scan(cpu, three, inputs(), state, {.o = o}, tape);
  auto d_state = weft::zero_state_gradient(three, start);
  weft::vjp(cpu, three, inputs(), tape, {.o = w}, d_state, {.parts = {.q = d_q, .k = d_k, .v = d_v}, .weights = d_weights});
  compare(q, d_q, 7, loss);
  compare(k, d_k, 5, loss);
  compare(v, d_v, 5, loss);
  compare(weights, d_weights, 3, loss);

  // One alone; and no gradient of o at all.
  auto alone = weft::zero_state_gradient(three, start);
  weft::array<double, 4> one(k.extent());
  weft::vjp(cpu, three, inputs(), tape, {.o = w}, alone, {.parts = {.k = one}});
  CHECK(same_bits(one, d_k));
  weft::vjp(cpu, three, inputs(), tape, {}, alone, {.parts = {.k = one}, .weights = d_weights});
  CHECK(dot(one, one) == 0);
  CHECK(dot(d_weights, d_weights) == 0);
}

TEST_CASE("a wrong gradient of a sum is refused by its part's name") {
  using local = weft::attention<double, weft::window>;
  const auto t = random<double>({1, 6, 2, 5}, 1);
  const auto both = weft::sum(local{.select = {.window = 3}}, weft::linear_attention<double>{});
  const decltype(both)::inputs in{{.q = t, .k = t, .v = t}, {t, t, t}};
  auto state = both.state({.batch = 1, .heads = 2, .key_dim = 5, .value_dim = 5});
  weft::array<double, 4> o(t.extent()), d(t.extent()), e(t.extent());
  weft::cpu cpu;
  weft::tape tape;
  weft::scan(cpu, both, in, state, {.o = o}, tape);
  auto d_state = weft::zero_state_gradient(both, state);
  const auto says = [&](weft::errc code, decltype(both)::gradients to) {
    const std::string what = refusal(code, [&] { weft::vjp(cpu, both, in, tape, {.o = o}, d_state, to); });
    CHECK(dot(d, d) + dot(e, e) == 0);
    return what;
  };
  decltype(both)::gradients to{{.q = d}, {}};
  std::get<1>(to).v = e.view().slice(1, 0, 5);
  CHECK(says(weft::errc::shape, to).starts_with("weft: 1.d_v: expected [1, 6, 2, 5], got [1, 5, 2, 5]"));
  std::get<1>(to).v = d;
  CHECK(says(weft::errc::overlap, to).starts_with("weft: 1.d_v: expected memory apart from the other gradients"));
  std::get<1>(to).v = o;
  CHECK(says(weft::errc::overlap, to).starts_with("weft: 1.d_v: expected memory apart from d_o"));
}

}  // namespace hybrid
