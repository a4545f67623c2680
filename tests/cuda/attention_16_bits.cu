// The kernels for 16-bit numbers of widths 64 and 128: prefill on tensor cores, and decode steps.
#include "attention_calls.hpp"

#include "attention_session.cuh"

namespace contract {

// Not in the library: a selector of a user, of more ranges than the kernels keep at once.
struct stripes {
  index size = 10;

  template <class F>
  constexpr void select(const weft::query_span& q, F&& f) const {
    for (index begin = 0; begin < q.end; begin += 2 * size) f(weft::key_range{begin, begin + size});
  }
  weft::retained_keys retained() const { return {}; }
  void check() const {}
};

namespace {

using weft::attention, weft::bf16, weft::fp16, weft::window;

std::vector<std::string> wrong;

template <class Session>
void close(Session& s, const std::string& name) {
  const double d = s.difference();
  if (std::getenv("WEFT_SHOW")) std::printf("%-60s %.2e\n", name.c_str(), d);
  if (!(d <= s.tolerance())) wrong.push_back(name + ": " + std::to_string(d));
}

template <class M>
void calls_hold(const std::string& name, M mixer, attention_shape x, std::vector<index> times, bool sinks = false) {
  attention_session<M> s(mixer, x);
  for (std::size_t i = 0; i < times.size(); ++i) {
    s.draw(times[i]);
    weft::literal(mixer, s.inputs(sinks), s.cache, {s.o, s.lse});
    if (times[i] == 1) weft::step(s.gpu, mixer, s.inputs_there(sinks), s.there, {s.o_, s.lse_});
    else weft::scan(s.gpu, mixer, s.inputs_there(sinks), s.there, {s.o_, s.lse_});
    close(s, name + ", call " + std::to_string(i) + " of " + std::to_string(times[i]));
  }
}

// Numbers that are none, where some rows of a tile see them and some do not.
template <class M>
void poison_stays(const std::string& name, M mixer, attention_shape x, std::vector<index> times) {
  attention_session<M> s(mixer, x);
  for (const index time : times) {
    s.draw(time);
    const float none[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 6; ++i) {
      auto& a = i % 2 ? s.v : s.k;
      a(static_cast<index>(s.random()) % x.batch, static_cast<index>(s.random()) % time, static_cast<index>(s.random()) % x.heads, 5) = typename M::storage_type(none[i % 3]);
    }
    s.k_ = weft::copy(s.gpu, s.k), s.v_ = weft::copy(s.gpu, s.v);
    weft::literal(mixer, s.inputs(false), s.cache, {s.o, s.lse});
    if (time == 1) weft::step(s.gpu, mixer, s.inputs_there(false), s.there, {s.o_, s.lse_});
    else weft::scan(s.gpu, mixer, s.inputs_there(false), s.there, {s.o_, s.lse_});
    const auto got = weft::copy(s.host, s.o_);
    double wrong_sum = 0, right = 0;
    bool reached = true;
    for (index i = 0; i < s.o.size(); ++i) {
      const double e = s.o.data()[i], g = got.data()[i];
      if (std::isfinite(e) != std::isfinite(g)) reached = false;
      else if (std::isfinite(e)) wrong_sum += (e - g) * (e - g), right += e * e;
    }
    if (!reached) wrong.push_back(name + ": a number that is none went elsewhere");
    if (!(std::sqrt(wrong_sum) <= 0.005 * std::sqrt(right))) wrong.push_back(name + ": rows that do not see it changed");
  }
}

void packed_hold() {
  const std::vector<index> cu{0, 130, 130, 137, 400};
  attention_session<attention<bf16>> s({}, {.batch = 1, .heads = 2, .query_heads = 4, .key_dim = 128, .value_dim = 128, .capacity = 700, .cu = cu});
  for (int call = 0; call < 2; ++call) {
    s.draw(400);
    weft::literal(s.mixer, s.inputs(false), s.cache, {s.o, s.lse}, cu);
    weft::scan(s.gpu, s.mixer, s.inputs_there(false), s.there, {s.o_, s.lse_}, cu);
    close(s, "packed, call " + std::to_string(call));
  }
}

void in_place_holds() {
  attention_session<attention<bf16>> s({}, {.batch = 2, .heads = 3, .query_heads = 3, .key_dim = 64, .value_dim = 64, .capacity = 600});
  s.draw(300);
  weft::literal(s.mixer, s.inputs(false), s.cache, {s.o, s.lse});
  const auto empty = weft::copy(s.gpu, s.mixer.state({.batch = 2, .heads = 3, .key_dim = 64, .value_dim = 64, .capacity = 600}));
  auto& where = s.o_;
  for (const bool on_values : {false, true}) {
    s.there = empty;
    auto q = s.q_, v = s.v_;
    weft::scan(s.gpu, s.mixer, {.q = q, .k = s.k_, .v = v}, s.there, {on_values ? v : q, s.lse_});
    where = on_values ? v : q;
    close(s, on_values ? "over v" : "over q");
  }
}

}  // namespace

std::vector<std::string> wrong_attention_16_bits() {
  wrong.clear();
  calls_hold<attention<bf16>>("bf16 128", {}, {.batch = 1, .heads = 1, .query_heads = 2, .key_dim = 128, .value_dim = 128, .capacity = 1200}, {128, 16, 127, 129, 1, 300, 1});
  calls_hold<attention<bf16>>("bf16 64", {}, {.batch = 2, .heads = 2, .query_heads = 6, .key_dim = 64, .value_dim = 64, .capacity = 1300}, {2, 1, 200, 513, 1, 31, 1}, true);
  calls_hold<attention<fp16>>("fp16 128 both ways", {.causal = false}, {.batch = 2, .heads = 1, .query_heads = 1, .key_dim = 128, .value_dim = 128, .capacity = 600}, {300, 100, 1});
  calls_hold<attention<fp16>>("fp16 64 capped", {.scale = -2.0, .softcap = 5}, {.batch = 1, .heads = 2, .query_heads = 2, .key_dim = 64, .value_dim = 64, .capacity = 600}, {300, 1, 100}, true);
  calls_hold<attention<bf16, window>>("window 128", {.select = {.window = 200, .kept = 3}}, {.batch = 2, .heads = 1, .query_heads = 2, .key_dim = 128, .value_dim = 128}, {500, 1, 170, 1, 1, 600}, true);
  calls_hold<attention<bf16, window>>("window 64", {.select = {.window = 7}}, {.batch = 1, .heads = 2, .query_heads = 2, .key_dim = 64, .value_dim = 64}, {300, 5, 1, 100, 1});
  calls_hold<attention<bf16>>("17 heads of one", {}, {.batch = 2, .heads = 2, .query_heads = 34, .key_dim = 128, .value_dim = 128, .capacity = 700}, {40, 1, 1});
  calls_hold<attention<bf16, stripes>>("a selector of a user", {}, {.batch = 1, .heads = 2, .query_heads = 4, .key_dim = 128, .value_dim = 128, .capacity = 900}, {500, 1, 200, 1}, true);
  calls_hold<attention<float, stripes>>("a selector of a user, float", {}, {.batch = 1, .heads = 2, .query_heads = 4, .key_dim = 20, .value_dim = 30, .capacity = 900}, {500, 1, 200, 1}, true);
  packed_hold();
  in_place_holds();
  poison_stays<attention<bf16>>("dense", {}, {.batch = 2, .heads = 2, .query_heads = 4, .key_dim = 64, .value_dim = 64, .capacity = 900}, {300, 1, 40, 1});
  poison_stays<attention<fp16, window>>("window", {.select = {.window = 50}}, {.batch = 1, .heads = 2, .query_heads = 2, .key_dim = 128, .value_dim = 128}, {300, 1, 200});
  return wrong;
}

}  // namespace contract
