// The tensor-core schedule against the definition in double, on the same rounded inputs: RMS of the error over RMS of the result.
#include "tensor.hpp"

#include "../contract/independence.hpp"
#include "../contract/state.hpp"
#include "device_subject.hpp"

namespace contract {
namespace {

template <class M>
class tensor_subject : public literal_subject<M> {
  using base = literal_subject<M>;

 public:
  tensor_subject(std::string n, M m, int columns, index parts = 1) : base(std::move(m)), slice_(columns), segments_(parts) { this->name = std::move(n); }
  index grid(const sizes&) const override { return 32; }
  void run(verb v, weft::cpu& on, const std::vector<tensor>& in, any_state& s, const tensor& out, std::span<const index> cu) const override {
    if (v == verb::literal) return base::run(v, on, in, s, out, cu);
    run_tensor_on_device(this->mixer, slice_, segments_, base::views_of(in), base::state_in(s), base::outputs_for(out), cu);
  }

 private:
  int slice_;
  index segments_;
};

double ratio(const std::vector<double>& got, const std::vector<double>& exact) {
  double wrong = 0, right = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) wrong += (got[i] - exact[i]) * (got[i] - exact[i]), right += exact[i] * exact[i];
  return right > 0 ? std::sqrt(wrong / right) : std::sqrt(wrong);
}

struct example {
  std::string name;
  sizes s;
  keys key = keys::normalised;
  double low = -0.3, high = 0;    // decays
  double beta_low = 0, beta_high = 1;
  double differ = 0;              // keys that are alike, but for so much
  double rare = 0;                // a decay of now and then
  bool bare = false;              // without optional inputs
};

problem problem_of(const subject& m, const example& e, dice& d) {
  sizes s = e.s;
  m.size(s, d);
  problem p = random_problem(m, s, {e.key, gates::mild, betas::random}, d);
  for (field& f : p.fields) {
    f.null = f.info.optional && e.bare;
    if (f.info.name == "g" || f.info.name == "input 4")
      for (double& x : f.values) x = e.rare != 0 && d.one_in(20) ? e.rare : d.uniform(e.low, e.high);
    if (f.info.name == "beta" || f.info.name == "input 5")
      for (double& x : f.values) x = d.uniform(e.beta_low, e.beta_high);
    if ((f.info.name == "k" || f.info.name == "input 2") && e.differ > 0)
      for (double& x : f.values) x += e.differ * d.normal();
    f.round();
  }
  return p;
}

std::vector<example> examples(bool erases) {
  const auto of = [](index batch, index time, index heads, index group, index k, index v) {
    sizes s;
    s.batch = batch, s.time = time, s.heads = heads, s.group = group, s.key_dim = k, s.value_dim = v;
    return s;
  };
  const double inf = std::numeric_limits<double>::infinity();
  std::vector<example> all;
  for (const index t : {16, 31, 32, 33, 64, 97, 203}) all.push_back({"T " + std::to_string(t), of(1, t, 2, 1, 128, 128)});
  all.push_back({"64 x 64", of(2, 100, 3, 1, 64, 64)});
  all.back().bare = true;
  all.push_back({"64 x 128", of(2, 100, 2, 1, 64, 128)});
  all.push_back({"128 x 64", of(2, 100, 2, 1, 128, 64)});
  all.push_back({"grouped heads", of(2, 75, 2, 3, 128, 128)});
  all.push_back({"decays of -30", of(1, 203, 2, 1, 128, 128), keys::normalised, -0.3, 0, 0, 1, 0, -30});
  all.push_back({"decays of minus infinity", of(1, 203, 2, 1, 128, 128), keys::normalised, -0.3, 0, 0, 1, 0, -inf});
  all.push_back({"decays from -5", of(1, 203, 2, 1, 128, 128), keys::normalised, -5, 0});
  all.push_back({"decays from -60", of(1, 203, 2, 1, 128, 128), keys::normalised, -60, 0});
  if (erases) {
    all.push_back({"one key", of(1, 200, 2, 1, 128, 128), keys::repeated, -0.01, 0, 0.95, 1});
    all.push_back({"nearly one key", of(1, 200, 2, 1, 128, 128), keys::repeated, -0.01, 0, 0.95, 1, 0.02});
    all.push_back({"one key, no decay", of(1, 333, 2, 1, 128, 128), keys::repeated, -0.001, 0, 0.999, 1});
  }
  example packed{"packed", of(1, 190, 2, 1, 128, 128)};
  packed.s.cu = {0, 5, 5, 37, 69, 133, 190};
  all.push_back(packed);
  return all;
}

using change = std::function<void(problem&, dice&)>;
const change gates_of_one = [](problem& p, dice& d) {
  for (const char* name : {"b", "w"})
    for (double& x : p[name]) x = d.uniform(0, 1);
};
const change rates = [](problem& p, dice& d) { negative_rates(p, d, false); };

// Of o and of the state, against the definition in the wider type: RMS ratios.
struct errors {
  double o = 0, state = 0;
};
template <class M>
errors errors_of(const tensor_subject<M>& m, const problem& p, any_state& start) {
  const auto reference = m.wide();
  const outcome exact = run(*reference, retyped(p, *reference), *converted(start, reference->state(p.s)), {.verb = verb::literal});
  const outcome got = run(m, p, start);
  return {ratio(got.o, exact.o), ratio(got.state->values(), exact.state->values())};
}

template <class M>
void holds(const std::string& name, const M& mixer, bool erases, double like_keys = 0.005, const change& adapt = [](problem&, dice&) {}, index widest = 128, double like_o = 0.005) {
  unsigned seed = 1;
  for (example e : examples(erases)) {
    e.s.key_dim = std::min(e.s.key_dim, widest), e.s.value_dim = std::min(e.s.value_dim, widest);
    for (const int slice : {32, 64, 128}) {
      if (slice > e.s.value_dim || (e.s.key_dim == 64 && slice != 64)) continue;
      tensor_subject<M> m(name, mixer, slice);
      m.adapt = adapt;
      dice d(seed++);
      const problem p = problem_of(m, e, d);
      const auto [o, s] = errors_of(m, p, *random_state(m, p, start::random, d));
      CAPTURE(name, e.name, slice, o, s);
      if (std::getenv("WEFT_SHOW")) std::printf("%-16s %-26s %3d  o %.2e  state %.2e\n", name.c_str(), e.name.c_str(), slice, o, s);
      CHECK(o <= (e.key == keys::repeated ? like_o : 0.005));
      CHECK(s <= (e.key == keys::repeated ? like_keys : 0.005));
    }
  }
}

TEST_CASE("the tensor-core schedule computes the definition") {
  holds<weft::gated_delta_rule<weft::bf16>>("gated_delta", {}, true);
  holds<weft::gated_delta_rule<weft::bf16>>("gated_delta unit", {.qk_l2norm = true}, true);
  holds<weft::delta_rule<weft::fp16>>("delta fp16", {}, true);
  holds<weft::simple_gla<weft::bf16>>("simple_gla", {}, false);
  // Keys that are alike, each times a decay of its own, round apart: what 32 of them write does not cancel as it should.
  holds<weft::kda<weft::bf16>>("kda", {}, true, 0.006);
  holds<weft::kda<weft::bf16>>("kda unit", {.qk_l2norm = true}, true, 0.006);
  holds<weft::gdn2<weft::bf16>>("gdn2", {}, true, 0.006, gates_of_one);
  holds<weft::gdn2<weft::bf16>>("gdn2 unit", {.qk_l2norm = true}, true, 0.006, gates_of_one);
  holds<weft::gla<weft::bf16>>("gla", {}, false);
  holds<weft::hgrn2<weft::bf16>>("hgrn2", {}, false);
  holds<weft::rwkv6<weft::bf16>>("rwkv6", {}, false);
  holds<weft::comba<weft::bf16>>("comba", {}, true, 0.005, weakened_key);
  holds<weft::comba<weft::bf16>>("comba unit", {.qk_l2norm = true}, true, 0.005, weakened_key);
  holds<weft::mamba2<weft::bf16>>("mamba2", {}, false, 0.005, rates);
  holds<weft::gated_delta_product<weft::bf16>>("delta product of 1", {}, true);
  holds<weft::gated_delta_product<weft::bf16>>("delta product of 2", {.qk_l2norm = true, .micro_steps = 2}, true);
  // What one writer adds and the other removes rounds apart, each in full.
  holds<weft::rwkv7<weft::bf16>>("rwkv7", {}, true, 0.009, removal_keys, 64, 0.007);
  holds<weft::recurrence<clear_leaky_delta, weft::bf16>>("a policy of a user", {}, true);
}

template <class M>
void joins(const std::string& name, const M& mixer) {
  for (const index segments : {2, 3, 7}) {
    const tensor_subject<M> m(name, mixer, 32, segments);
    dice d(static_cast<unsigned>(segments));
    example e{"", {}};
    e.s.time = 333, e.s.heads = 2, e.s.key_dim = e.s.value_dim = 128, e.low = -0.02;  // what a segment begins with still counts at its end
    const problem p = problem_of(m, e, d);
    const auto [o, s] = errors_of(m, p, *random_state(m, p, start::random, d));
    CAPTURE(name, segments, o, s);
    if (std::getenv("WEFT_SHOW")) std::printf("%-16s %lld segments  o %.2e  state %.2e\n", name.c_str(), static_cast<long long>(segments), o, s);
    CHECK(o <= 0.005);
    CHECK(s <= 0.005);
  }
}

TEST_CASE("segments of the tensor-core schedule compose") {
  joins<weft::gated_delta_rule<weft::bf16>>("gated_delta", {});
  joins<weft::simple_gla<weft::bf16>>("simple_gla", {});
  joins<weft::kda<weft::bf16>>("kda", {});
}

TEST_CASE("the tensor-core schedule's splits on its grid, and its batches, have the same bits") {
  const tensor_subject<weft::gated_delta_rule<weft::bf16>> m("gated_delta", {}, 64);
  dice d(5);
  example e{"", {}};
  e.s.batch = 3, e.s.time = 150, e.s.heads = 2, e.s.key_dim = e.s.value_dim = 64;
  const problem p = problem_of(m, e, d);
  const auto start = random_state(m, p, start::random, d);
  const outcome whole = run(m, p, *start);
  CHECK(run(m, p, *start) == whole);
  CHECK(run(m, p, *start, {.cuts = {32, 128}}) == whole);
  // Rows by themselves.
  const std::size_t row = whole.o.size() / 3;
  for (std::size_t b = 0; b < 3; ++b) {
    problem one = p;
    one.s.batch = 1;
    for (field& f : one.fields) {
      const auto n = static_cast<index>(f.values.size()) / 3, at = static_cast<index>(b) * n;
      f.extent[0] = 1;
      f.values = {f.values.begin() + at, f.values.begin() + at + n};
    }
    const outcome alone = run(m, one, *start->gather({static_cast<index>(b)}));
    CHECK(std::equal(alone.o.begin(), alone.o.end(), whole.o.begin() + static_cast<index>(b * row)));
  }
}

template <class M>
void contains(const std::string& name, const M& mixer, const change& adapt = [](problem&, dice&) {}) {
  tensor_subject<M> m(name, mixer, 64);
  m.adapt = adapt;
  dice d(7);
  for (int i = 0; i < 40; ++i) {
    example e{"", {}};
    e.s.batch = 2, e.s.time = 40 + d.below(60), e.s.heads = 2, e.s.key_dim = e.s.value_dim = 64;
    if (i % 4 == 0) e.s.batch = 1, e.s.time = 90, e.s.cu = {0, 5, 37, 37, 90};
    CAPTURE(name, i);
    poison_is_contained(m, problem_of(m, e, d), d);
  }
}

TEST_CASE("in the tensor-core schedule, a token reaches later outputs of its own head only") {
  contains<weft::gated_delta_rule<weft::bf16>>("gated_delta", {});
  contains<weft::gated_delta_rule<weft::bf16>>("gated_delta unit", {.qk_l2norm = true});
  contains<weft::delta_rule<weft::fp16>>("delta fp16", {});
  contains<weft::simple_gla<weft::bf16>>("simple_gla", {});
  contains<weft::kda<weft::bf16>>("kda", {});
  contains<weft::kda<weft::bf16>>("kda unit", {.qk_l2norm = true});
  contains<weft::gdn2<weft::bf16>>("gdn2", {}, gates_of_one);
  contains<weft::gla<weft::bf16>>("gla", {});
  contains<weft::hgrn2<weft::bf16>>("hgrn2", {});
  contains<weft::rwkv6<weft::bf16>>("rwkv6", {});
  contains<weft::comba<weft::bf16>>("comba", {}, weakened_key);
  contains<weft::rwkv7<weft::bf16>>("rwkv7", {}, removal_keys);
  contains<weft::mamba2<weft::bf16>>("mamba2", {}, rates);
  contains<weft::gated_delta_product<weft::bf16>>("delta product of 2", {.micro_steps = 2});
}

TEST_CASE("the tensor-core schedule's output may lie on q or v") {
  for (const int slice : {32, 64, 128}) {
    const tensor_subject<weft::gated_delta_rule<weft::bf16>> m("gated_delta", {}, slice);
    dice d(6);
    example e{"", {}};
    e.s.batch = 2, e.s.time = 333, e.s.heads = 3, e.s.key_dim = e.s.value_dim = 128;
    const problem p = problem_of(m, e, d);
    const auto start = random_state(m, p, start::random, d);
    const outcome apart = run(m, p, *start);
    for (const std::size_t i : {0, 1, 2}) {
      arguments a = arrange(p, layout::contiguous, d);
      weft::cpu cpu;
      auto state = start->copy();
      m.run(verb::scan, cpu, a.in, *state, a.in[i], {});
      CHECK(outcome{a.in[i].get(), std::move(state)} == apart);
    }
    // A number that is none is seen before the outputs of its chunk lie on it.
    constexpr std::size_t before = (1 * 333 + 200) * 3 * 128;
    problem bad = p;
    bad["v"][before + 2 * 128 + 5] = std::numeric_limits<double>::infinity();
    arguments a = arrange(bad, layout::contiguous, d);
    weft::cpu cpu;
    const auto state = start->copy();
    m.run(verb::scan, cpu, a.in, *state, a.in[2], {});
    const std::vector<double> o = a.in[2].get();
    CHECK(std::equal(o.begin(), o.begin() + before, apart.o.begin()));
    CHECK_FALSE(std::isfinite(o[before + 2 * 128 + 5]));
  }
}

}  // namespace
}  // namespace contract
