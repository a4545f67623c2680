// Tier A: one frozen delta-rule head of 32 by 32. A pair writes its value under its key, a query reads; logits = 12 E_v o.
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_vjp.hpp>
#include <weft/layer/cross_entropy.hpp>
#include <weft/recurrence/delta_rule.hpp>
#include <weft/tune/initial_states.hpp>
#include <weft/tune/low_rank.hpp>
#include <weft/tune/tuning.hpp>

#include <numeric>
#include <random>

#include "tiers.hpp"

namespace s0 {
namespace {

using state_type = weft::recurrent_state<float>;
using weft::array;

constexpr index dim = 32, keys = 96, values = 96, table_size = 24, pairs = 4, queries = 8, length = pairs + queries;

enum class test { recall, retain, overridden, rule };

array<float, 2> unit_rows(index rows, std::mt19937& bits) {
  array<float, 2> a({rows, dim});
  std::normal_distribution<float> draw;
  for (index r = 0; r < rows; ++r) {
    float sum = 0;
    for (index c = 0; c < dim; ++c) {
      a(r, c) = draw(bits);
      sum += a(r, c) * a(r, c);
    }
    for (index c = 0; c < dim; ++c) a(r, c) /= std::sqrt(sum);
  }
  return a;
}

// What the head is asked on one batch.
struct batch {
  array<float, 3> key, value;     // [B, T, dim]; no value: zeros
  array<float, 3> beta;           // [B, T, 1]
  array<std::int64_t, 2> target;  // [B, T]
};

// The frozen head, its embeddings, and the table that it is to learn; all from one seed.
struct problem {
  std::mt19937 bits;
  array<float, 2> key_rows, value_rows;
  std::vector<index> order, table, permutation;  // table: of the first keys of `order`, their values

  explicit problem(unsigned seed)
      : bits(seed),
        key_rows(unit_rows(keys, bits)),
        value_rows(unit_rows(values, bits)),
        order(keys),
        table(table_size),
        permutation(values) {
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), bits);
    for (index& v : table) v = any(values);
    std::iota(permutation.begin(), permutation.end(), 0);
    std::shuffle(permutation.begin(), permutation.end(), bits);
  }
  index any(index count) { return static_cast<index>(bits() % static_cast<unsigned>(count)); }

  batch make(test t, index count) {
    batch b{array<float, 3>({count, length, dim}), array<float, 3>({count, length, dim}), array<float, 3>({count, length, 1}),
            array<std::int64_t, 2>({count, length})};
    for (index s = 0; s < count; ++s) {
      // Pairs of different keys: of the table where these are written again, else of the others.
      const bool rewritten = t == test::overridden;
      std::vector<index> from(order.begin() + (rewritten ? 0 : table_size), rewritten ? order.begin() + table_size : order.end()),
          held(pairs);
      std::shuffle(from.begin(), from.end(), bits);
      const auto put_key = [&](index at, index key) { std::copy_n(&key_rows(key, 0), dim, &b.key(s, at, 0)); };
      for (index i = 0; i < length; ++i) {
        b.target(s, i) = weft::no_target;
        if (i < pairs) {
          held[static_cast<std::size_t>(i)] = any(values);
          put_key(i, from[static_cast<std::size_t>(i)]);
          std::copy_n(&value_rows(held[static_cast<std::size_t>(i)], 0), dim, &b.value(s, i, 0));
          b.beta(s, i, 0) = 1;
        } else if (t == test::recall) {
          const auto entry = static_cast<std::size_t>(any(table_size));
          put_key(i, order[entry]);
          b.target(s, i) = table[entry];
        } else {
          const auto which = static_cast<std::size_t>(any(pairs));
          put_key(i, from[which]);
          b.target(s, i) = t == test::rule ? permutation[static_cast<std::size_t>(held[which])] : held[which];
        }
      }
    }
    return b;
  }
};

weft::projection<float> map(float diagonal) {
  weft::projection<float> p{array<float, 2>({dim, dim}), {}};
  for (index i = 0; i < dim; ++i) p.weight(i, i) = diagonal;
  return p;
}

// o = W_o read(unit W_q key) + W_skip key, written by unit W_k key and W_v value.
struct head {
  weft::projection<float> q = map(1), k = map(1), v = map(1), o = map(1), skip = map(0);
  auto parts() {
    return std::tuple{weft::part{"q", q}, weft::part{"k", k}, weft::part{"v", v}, weft::part{"o", o}, weft::part{"skip", skip}};
  }
};

class frozen {
 public:
  explicit frozen(const problem& p) : read_{array<float, 2>({values, dim}), {}} {
    for (index i = 0; i < read_.weight.size(); ++i) read_.weight.data()[i] = 12 * p.value_rows.data()[i];
  }

  static state_type zeros(index count) { return mixer().state({.batch = count, .heads = 1, .key_dim = dim, .value_dim = dim}); }
  static weft::delta_rule<float> mixer() { return {.scale = 1.0, .qk_l2norm = true}; }

  head maps, gradients;
  bool trains_maps = false;

  // The mean loss; the gradient of the start comes out in d_state, those of the maps are added where they are trained.
  double loss(const batch& b, state_type state, state_type* d_state) {
    const index count = b.key.extent(0);
    const auto extent = b.key.extent();
    array<float, 3> d_y(extent), d_o(extent), d_q(extent), d_k(extent), d_v(extent);
    forward(b, state);
    const auto loss = weft::cross_entropy<float>(cpu_, read_, y_, b.target.view(), d_y);
    auto* const d = trains_maps ? &gradients : nullptr;
    weft::project_vjp(cpu_, maps.o, weft::view<const float, 3>(o_), d_y, d_o.view(), d ? &d->o : nullptr);
    if (d) weft::project_vjp<float>(cpu_, maps.skip, weft::view<const float, 3>(b.key), d_y, {}, &d->skip);
    weft::gradients_t<weft::delta_rule<float>> d_in{};
    if (d) {
      d_in.q = heads(d_q);
      d_in.k = heads(d_k);
      d_in.v = heads(d_v);
    }
    state_type d_start = zeros(count);
    weft::vjp(cpu_, mixer(), inputs(b), tape_, {.o = heads(d_o)}, d_start, d_in);
    if (d) {
      weft::project_vjp<float>(cpu_, maps.q, weft::view<const float, 3>(b.key), d_q, {}, &d->q);
      weft::project_vjp<float>(cpu_, maps.k, weft::view<const float, 3>(b.key), d_k, {}, &d->k);
      weft::project_vjp<float>(cpu_, maps.v, weft::view<const float, 3>(b.value), d_v, {}, &d->v);
    }
    if (d_state) *d_state = std::move(d_start);
    return loss.mean();
  }

  double right(const batch& b, state_type state) {
    forward(b, state);
    array<float, 3> logits({b.key.extent(0), length, values});
    weft::project<float>(cpu_, read_, y_, logits);
    return share_right(logits, b.target);
  }
  weft::cpu& cpu() { return cpu_; }

 private:
  static weft::view<float, 4> heads(array<float, 3>& a) { return weft::heads_of(a.view(), 0, 1, dim); }
  weft::delta_rule<float>::inputs inputs(const batch& b) { return {.q = heads(q_), .k = heads(k_), .v = heads(v_), .beta = b.beta}; }

  void forward(const batch& b, state_type& state) {
    const auto extent = b.key.extent();
    for (auto* a : {&q_, &k_, &v_, &o_, &y_, &skip_}) *a = array<float, 3>(extent);
    weft::project<float>(cpu_, maps.q, b.key, q_);
    weft::project<float>(cpu_, maps.k, b.key, k_);
    weft::project<float>(cpu_, maps.v, b.value, v_);
    weft::scan(cpu_, mixer(), inputs(b), state, {.o = heads(o_)}, tape_);
    weft::project<float>(cpu_, maps.o, o_, y_);
    weft::project<float>(cpu_, maps.skip, b.key, skip_);
    for (index i = 0; i < y_.size(); ++i) y_.data()[i] += skip_.data()[i];
  }

  weft::cpu cpu_;
  weft::projection<float> read_;
  weft::tape tape_;
  array<float, 3> q_, k_, v_, o_, y_, skip_;
};

// Virtual pairs, written with a strength of 1 before the sequence: folded, they are a state.
struct virtual_pairs {
  array<float, 4> key, value, d_key, d_value;
  array<float, 3> beta;
  weft::tape tape;

  virtual_pairs(index count, unsigned seed)
      : key({1, count, 1, dim}), value({1, count, 1, dim}), d_key(key.extent()), d_value(key.extent()), beta({1, count, 1}) {
    std::mt19937 bits(seed);
    std::normal_distribution<float> draw(0, 1 / std::sqrt(static_cast<float>(dim)));
    for (index i = 0; i < key.size(); ++i) key.data()[i] = draw(bits);
    std::fill_n(beta.data(), count, 1.0f);
  }
  weft::delta_rule<float>::inputs inputs() const { return {.q = key, .k = key, .v = value, .beta = beta}; }
  state_type fold(weft::cpu& cpu) {
    auto state = frozen::zeros(1);
    array<float, 4> o(key.extent());
    weft::scan(cpu, frozen::mixer(), inputs(), state, {.o = o}, tape);
    return state;
  }
  void add(weft::cpu& cpu, const state_type& d_batch) {
    auto d = frozen::zeros(1);
    for (index i = 0; i < d_batch.matrix.size(); ++i) d.matrix.data()[i % d.matrix.size()] += d_batch.matrix.data()[i];
    array<float, 4> dk(key.extent()), dv(key.extent());
    weft::gradients_t<weft::delta_rule<float>> d_in{};
    d_in.k = dk;
    d_in.v = dv;
    weft::vjp(cpu, frozen::mixer(), inputs(), tape, {}, d, d_in);
    for (index i = 0; i < dk.size(); ++i) d_key.data()[i] += dk.data()[i], d_value.data()[i] += dv.data()[i];
  }
  std::vector<weft::trained<float>> list() {
    const auto n = static_cast<std::size_t>(key.size());
    return {{"prefix.keys", {key.data(), n}, {d_key.data(), n}}, {"prefix.values", {value.data(), n}, {d_value.data(), n}}};
  }
};

constexpr index training_sequences = 16, rule_sequences = 32, test_sequences = 64;

scores judge(problem& p, frozen& f, bool rule, const std::function<state_type(index)>& start) {
  if (rule) return {f.right(p.make(test::rule, test_sequences), start(test_sequences)), 0, 0};
  const auto of = [&](test t) { return f.right(p.make(t, test_sequences), start(test_sequences)); };
  const double recall = of(test::recall), retain = of(test::retain);
  return {recall, retain, of(test::overridden)};
}

std::vector<index> rows_of(index count) { return std::vector<index>(static_cast<std::size_t>(count), 0); }

// One training, whatever is trained: `list`, what a batch starts from, and what becomes of the gradient of that.
std::vector<scores> run(
    problem& p, frozen& f, bool rule, double rate, double l2, std::span<const index> steps, const std::vector<weft::trained<float>>& list,
    const std::function<state_type(index)>& start, const std::function<void(const state_type&)>& back,
    const std::function<void()>& before = [] {}) {
  const batch training = p.make(rule ? test::rule : test::recall, rule ? rule_sequences : training_sequences);
  const auto loss = [&] {
    state_type d_state;
    const double mean = f.loss(training, start(training.key.extent(0)), &d_state);
    back(d_state);
    return mean;
  };
  return tune_and_judge(
      f.cpu(), list, rate, l2, steps, loss, [&] { return judge(p, f, rule, start); }, before);
}

method initial_state(bool rule) {
  return {.name = "S0", .cost = "none", .parameters = dim * dim, .train = [rule](unsigned seed, double rate, std::span<const index> steps) {
            problem p(seed);
            frozen f(p);
            weft::initial_states<state_type> set{{{0, frozen::zeros(1)}}, {.factor = 1.0}};
            weft::state_training<float, state_type> training(set);
            return run(
                p, f, rule, rate, 5e-4, steps, training.list(), [&](index n) { return training.start(0, n); },
                [&](const state_type& d) { training.add(0, d); });
          }};
}

method prefix(index count) {
  return {.name = "prefix, " + std::to_string(count) + " virtual pairs",
          .cost = std::to_string(count) + " tokens, or fold to S0",
          .parameters = 2 * count * dim,
          .train = [count](unsigned seed, double rate, std::span<const index> steps) {
            problem p(seed);
            frozen f(p);
            virtual_pairs prefix(count, seed + 1000);
            return run(
                p, f, false, rate, 0, steps, prefix.list(), [&](index n) { return prefix.fold(f.cpu()).gather(rows_of(n)); },
                [&](const state_type& d) { prefix.add(f.cpu(), d); });
          }};
}

method low_rank(index rank, bool rule, const char* note, criterion best) {
  return {.name = "LoRA r" + std::to_string(rank) + note,
          .cost = "merge",
          .parameters = 5 * rank * 2 * dim,
          .best = std::move(best),
          .train = [rank, rule](unsigned seed, double rate, std::span<const index> steps) {
            problem p(seed);
            frozen f(p);
            f.trains_maps = true;
            f.gradients = {.q = map(0), .k = map(0), .v = map(0), .o = map(0), .skip = map(0)};
            weft::low_rank_weights<float> change(rank, 2.0, seed + 1000);
            weft::for_each_part(f.maps, f.gradients,
                                [&](const auto& w, const auto& d) { change.add(w.name, w.data.weight.view(), d.data.weight.view()); });
            return run(
                p, f, rule, rate, 0, steps, change.list(), [&](index n) { return frozen::zeros(n); },
                [&](const state_type&) { change.collect(); }, [&] { change.merge(); });
          }};
}

const row& find(std::span<const row> rows, const std::string& name, index steps) {
  for (const row& r : rows)
    if (r.method == name && r.steps == steps) return r;
  throw weft::error(weft::errc::missing, "tune_s0: no row " + name);
}

}  // namespace

tier hand_built(const effort& e) {
  const std::vector<double> rates = e.quick ? std::vector{0.03, 0.1} : std::vector{1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3};
  const std::vector<index> steps = e.quick ? std::vector<index>{20} : std::vector<index>{20, 200};
  const std::vector<unsigned> choosing = e.quick ? std::vector{101u} : std::vector{101u, 102u},
                              reported = e.quick ? std::vector{1u, 2u} : std::vector{1u, 2u, 3u, 4u, 5u};
  tier t{"A: a hand-built delta-rule head, 32 x 32, nothing trained before; a table of 24 entries from 16 sequences", {}, {}};

  scores base;
  for (const unsigned seed : reported) {
    problem p(seed);
    frozen f(p);
    base += judge(p, f, false, [](index n) { return frozen::zeros(n); }) / static_cast<double>(reported.size());
  }
  t.rows.push_back({"frozen", "-", 0, 0, 0, base});
  std::vector<method> methods{initial_state(false),
                              prefix(8),
                              prefix(24),
                              low_rank(3, false, "", by_mean),
                              low_rank(3, false, ", rate by recall", by_recall),
                              low_rank(16, false, "", by_mean),
                              low_rank(16, false, ", rate by recall", by_recall)};
  if (e.quick) methods = {initial_state(false), prefix(8), low_rank(3, false, "", by_mean)};
  for (method& m : methods) m.steps = steps, m.rates = rates;
  const auto rows = compare("A: recall, retain, override", e.threads, methods, choosing, reported);
  t.rows.insert(t.rows.end(), rows.begin(), rows.end());

  std::vector<method> control{initial_state(true), low_rank(16, true, "", by_recall)};
  for (method& m : control) m.steps = {steps.back()}, m.rates = rates, m.best = by_recall;
  const std::vector<unsigned> three = e.quick ? reported : std::vector{1u, 2u, 3u};
  auto rule = compare("A: a new rule", e.threads, control, choosing, three);
  for (row& r : rule) r.method += ", a new rule";
  t.rows.insert(t.rows.end(), rule.begin(), rule.end());

  const scores s = find(rows, "S0", 20).scores;
  t.thresholds = {{"A: S0 after 20 steps, recall", s.recall, 0.95},
                  {"A: S0 after 20 steps, retain", s.retain, 0.97},
                  {"A: S0 after 20 steps, override", s.overridden, 0.95},
                  {"A: a new rule, S0 (it must fail)", rule[0].scores.recall, 0.05, false}};
  for (const index n : steps)
    t.thresholds.push_back({"A: LoRA of S0's size after " + std::to_string(n) + " steps, mean at its best rate",
                            find(rows, "LoRA r3", n).best_rate.mean(), 0.80, false});
  return t;
}

}  // namespace s0
