// P20: the n-th allocation of a call fails, for all n: std::bad_alloc, nothing lost, nothing written. And a warm executor
// allocates nothing at all.
#include <weft/weft.hpp>

#include "../failing_allocator.hpp"
#include "gradients.hpp"

namespace contract {
namespace {

struct small_call {
  problem p;
  std::unique_ptr<any_state> state;
  arguments a;
  block memory;
  tensor o;

  small_call(const subject& m, index time, dice& d, layout how = layout::contiguous) {
    sizes s;
    s.batch = 2, s.time = time, s.heads = 2, s.group = 1, s.key_dim = 5, s.value_dim = 9;
    p = random_problem(m, s, {}, d);
    state = random_state(m, p, start::random, d);
    a = arrange(p, how, d);
    const auto extent = m.output_extents(p.s);
    o = memory.place(m.storage(), extent, row_major(extent));
    memory.keep();
  }
};

void survives_failing_allocations(const subject& m, dice& d) {
  for (const verb v : {verb::scan, verb::step}) {
    small_call c(m, v == verb::step ? 1 : 20, d);
    const auto before = c.state->values();
    bool done = false;
    for (long n = 0; !done; ++n) {
      REQUIRE(n < 1000);
      {
        watch w(n);
        try {
          weft::cpu cpu;
          m.run(v, cpu, c.a.in, *c.state, c.o, {});
          done = true;
        } catch (const std::bad_alloc&) {
        }
      }
      CHECK(live == 0);
      if (done) {
        CHECK(n > 0);
        continue;
      }
      const bool kept = c.memory.unchanged();
      CHECK(kept);
      CHECK(same(c.state->values(), before));
    }
    CHECK(count_nan(c.o.get()) == 0);
  }
}

// Whether a call with a failing n-th allocation ends; the tape and the executor are of this call alone.
template <class Call>
bool ends(long n, Call&& call) {
  watch w(n);
  try {
    call();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// Both verbs, on a tape of its own and on one that served before: where its scan failed it is good for nothing.
void gradients_survive_failing_allocations(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  sizes size;
  size.batch = 2, size.time = 20, size.heads = 2, size.key_dim = 5, size.value_dim = 9, size.group = 2;
  const scene s(m, size, {}, d);
  size.time = 21;
  const scene longer(m, size, {}, d);
  const auto record = [&](weft::cpu& cpu, const scene& of, stage& on, weft::tape& tape) { m.record(cpu, on.a.in, *on.state, on.o, tape, of.p.s.cu); };
  for (const index every : {0, 16})
    for (const bool used : {false, true}) {
      CAPTURE(every, used);
      bool done = false;
      for (long n = 0; !done; ++n) {
        REQUIRE(n < 1000);
        weft::tape tape{.every = every};
        weft::cpu cpu;
        if (used) {
          stage before(m, longer);
          record(cpu, longer, before, tape);
        }
        stage c(m, s);
        const auto start = c.state->values();
        done = ends(n, [&] {
          weft::cpu own;
          record(own, s, c, tape);
        });
        if (done) break;
        const bool kept = c.o_memory.unchanged();
        CHECK(kept);
        CHECK(same(c.state->values(), start));
        CHECK_THROWS_AS(m.vjp(cpu, c.a.in, tape, c.d_o, *c.d_state, c.d_in), weft::error);
      }

      weft::cpu cpu;
      weft::tape tape{.every = every};
      stage c(m, s);
      record(cpu, s, c, tape);
      const auto start = c.d_state->values();
      done = false;
      for (long n = 0; !done; ++n) {
        REQUIRE(n < 1000);
        done = ends(n, [&] {
          weft::cpu own;
          m.vjp(own, c.a.in, tape, c.d_o, *c.d_state, c.d_in);
        });
        CHECK(live == 0);
        if (done) break;
        const bool kept = c.gradients_unchanged();
        CHECK(kept);
        CHECK(same(c.d_state->values(), start));
      }
    }
}

// What gradient_memory tells is the most that is held, but for a few small things.
void gradient_memory_is_what_is_taken(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  sizes size;
  size.batch = 2, size.time = 150, size.heads = 2, size.group = 2, size.key_dim = 24, size.value_dim = 17;
  scene s(m, size, {}, d);
  for (field& f : s.p.fields) f.null = false;
  for (const index every : {0, 16, 64}) {
    stage c(m, s);
    weft::cpu warm, fresh;
    weft::tape first{.every = every}, tape{.every = every};
    const auto told = m.gradient_memory(warm, s.p.s, c.a.in, *c.state, c.o, c.d_o, c.d_in, every);
    const auto again = c.state->copy();
    m.record(warm, c.a.in, *again, c.o, first, {});
    std::ptrdiff_t recorded = 0, back = 0;
    {
      const watch w(-1);
      m.record(warm, c.a.in, *c.state, c.o, tape, {});
      recorded = most_held;
    }
    {
      const watch w(-1);
      m.vjp(fresh, c.a.in, tape, c.d_o, *c.d_state, c.d_in);
      back = most_held;
    }
    for (const weft::gradient_bytes& t : told) {
      CAPTURE(every, t.tape, recorded, t.vjp, back);
      CHECK(t.tape == tape.bytes());
      for (const auto& [said, seen] : {std::pair{t.tape, recorded}, {t.vjp, back}}) {
        CHECK(seen >= static_cast<std::ptrdiff_t>(said));
        CHECK(seen <= static_cast<std::ptrdiff_t>(said) + 4096);
      }
    }
  }
}

void warm_calls_allocate_nothing(const subject& m, dice& d) {
  for (const layout how : {layout::contiguous, layout::fused}) {
    weft::cpu cpu;
    small_call c(m, 1, d, how);
    const auto again = c.state->copy();
    m.run(verb::step, cpu, c.a.in, *c.state, c.o, {});
    watch w(-1);
    m.run(verb::step, cpu, c.a.in, *again, c.o, {});
    CHECK(allocated == 0);
  }
}

}  // namespace
}  // namespace contract

TEST_CASE("a failing allocation changes nothing") { contract::for_each_subject(1, contract::survives_failing_allocations); }
TEST_CASE("a failing allocation changes no gradient") { contract::for_each_subject(1, contract::gradients_survive_failing_allocations); }
TEST_CASE("the memory of gradients is told beforehand") { contract::for_each_subject(1, contract::gradient_memory_is_what_is_taken); }
TEST_CASE("a warm executor allocates nothing") { contract::for_each_subject(1, contract::warm_calls_allocate_nothing); }

// Extents of several digits: a message prepared for an error that does not come would not fit a short string.
TEST_CASE("checks of large extents allocate nothing") {
  weft::cpu cpu;
  const weft::gated_delta_rule<float> mixer;
  weft::array<float, 4> q({16, 1, 32, 128}), o({16, 1, 32, 128});
  weft::array<float, 3> g({16, 1, 32});
  auto state = mixer.state({.batch = 16, .heads = 32, .key_dim = 128, .value_dim = 128});
  const auto fold = [&] { weft::step(cpu, mixer, {.q = q, .k = q, .v = q, .g = g, .beta = g}, state, {.o = o}); };
  fold();
  watch w(-1);
  fold();
  CHECK(allocated == 0);
}
