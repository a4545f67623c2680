// Selectors by lists against a choice made by sorting, in double; a caller's lists; parts that merge.
#include <algorithm>
#include <filesystem>
#include <numeric>

#include <weft/attention/merge.hpp>
#include <weft/backend/cpu/attention_vjp.hpp>
#include <weft/io/state_file.hpp>

#include "common.hpp"

namespace attention_test {
namespace {

using tokens = weft::attention<float, weft::top_tokens>;
using blocks = weft::attention<float, weft::top_blocks>;
using given = weft::attention<float, weft::block_lists>;
using lists = weft::array<std::int32_t, 4>;

template <class M>
typename M::state_type fresh(const M& m, const sizes& s) {
  return m.state({.batch = s.batch, .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.time});
}

// By the rule's words: forced first, then the larger score, then the lower number.
template <class T>
lists sorted_choice(const call<T>& c, index topk, index size, bool own_is_forced) {
  const auto e = c.q.extent();
  lists out({e[0], e[1], e[2], topk});
  for (index b = 0; b < e[0]; ++b)
    for (index t = 0; t < e[1]; ++t)
      for (index h = 0; h < e[2]; ++h) {
        const index own = t / size, candidates = own_is_forced ? own : own + 1;
        std::vector<double> score(static_cast<std::size_t>(candidates));
        for (index n = 0; n < candidates; ++n)
          for (index j = n * size; j < (n + 1) * size; ++j)
            for (index i = 0; i < e[3]; ++i)
              score[static_cast<std::size_t>(n)] += static_cast<double>(c.q(b, t, h, i)) * static_cast<double>(c.k(b, j, h / (e[2] / c.k.extent(2)), i)) / static_cast<double>(size);
        std::vector<std::int32_t> order(score.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](auto x, auto y) { return score[static_cast<std::size_t>(x)] > score[static_cast<std::size_t>(y)]; });
        order.resize(std::min(order.size(), static_cast<std::size_t>(own_is_forced ? topk - 1 : topk)));
        if (own_is_forced) order.push_back(static_cast<std::int32_t>(own));
        std::sort(order.begin(), order.end());
        order.resize(static_cast<std::size_t>(topk), -1);
        std::copy(order.begin(), order.end(), &out(b, t, h, 0));
      }
  return out;
}

// o of every query over the causal keys in its list.
template <class T>
weft::array<double, 4> over_lists(const call<T>& c, const lists& chosen, index size, double scale) {
  weft::array<double, 4> o(c.o.extent()), one;
  weft::array<double, 3> lse;
  const index time = c.q.extent(1);
  for (index b = 0; b < c.q.extent(0); ++b)
    for (index h = 0; h < c.q.extent(2); ++h) {
      const auto reads = [&](index t, index j) {
        const std::int32_t* const list = &chosen(b, t, h, 0);
        return j <= t && std::find(list, list + chosen.extent(3), static_cast<std::int32_t>(j / size)) != list + chosen.extent(3);
      };
      naive(c, scale, 0, false, reads, one, lse);
      for (index t = 0; t < time; ++t) std::copy_n(&one(b, t, h, 0), o.extent(3), &o(b, t, h, 0));
    }
  return o;
}

enum class verb { literal, scan, step, pieces };

template <class M>
lists run(const M& m, call<float>& c, const sizes& s, verb how) {
  weft::cpu cpu;
  auto cache = fresh(m, s);
  lists idx({s.batch, s.time, s.query_heads, m.select.topk});
  std::fill_n(idx.data(), idx.size(), 77);
  if (how == verb::literal) weft::literal(m, c.inputs(m), cache, {.o = c.o, .lse = c.lse, .idx = idx});
  const index piece = how == verb::step ? 1 : how == verb::pieces ? 37 : s.time;
  for (index t = 0; t < s.time && how != verb::literal; t += piece) {
    const index n = std::min(piece, s.time - t);
    auto out = c.outputs(m, t, n);
    out.idx = idx.view().slice(1, t, n);
    if (how == verb::step) weft::step(cpu, m, c.slice(m, t, n), cache, out);
    else weft::scan(cpu, m, c.slice(m, t, n), cache, out);
  }
  return idx;
}

template <class M>
void hold(const M& m, const sizes& s) {
  const index size = m.select.block();
  call<float> c(s);
  const lists expected = sorted_choice(c, m.select.topk, size, m.pools);
  const auto o = over_lists(c, expected, size, m.scale_for(s.key_dim));
  CAPTURE(m.select.topk, size, s.time, s.query_heads, s.heads);
  for (const verb how : {verb::literal, verb::scan, verb::step, verb::pieces}) {
    CAPTURE(static_cast<int>(how));
    const lists idx = run(m, c, s, how);
    CHECK(same_bits(idx, expected));
    CHECK(largest_difference(c.o, o) <= 3e-6);
  }
}

const sizes shapes[] = {{2, 50, 4, 2, 8, 5}, {1, 140, 3, 1, 17, 24}, {1, 290, 2, 2, 32, 16}};

std::string refusal(auto&& f, weft::errc code = weft::errc::value) {
  try {
    f();
  } catch (const weft::error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("the tokens with the largest scores are read, in every mode") {
  for (const sizes& s : shapes)
    for (const index topk : {index(1), index(7), index(60), index(1000)}) hold(tokens{.select = {.topk = topk}}, s);
}

TEST_CASE("the own block and the best blocks before it are read, in every mode") {
  for (const sizes& s : shapes)
    for (const index size : {index(1), index(5), index(16), index(40), index(130)})
      for (const index topk : {index(1), index(2), index(5), index(300)}) hold(blocks{.select = {.topk = topk, .block_size = size}}, s);
}

TEST_CASE("equal scores go to the lower number, and a NaN is never chosen") {
  const sizes s{1, 200, 2, 1, 8, 8};
  call<float> c(s);
  for (index t = 0; t < s.time; ++t) std::copy_n(&c.k(0, 0, 0, 0), 8, &c.k(0, t, 0, 0));
  const tokens m{.select = {.topk = 3}};
  const blocks n{.select = {.topk = 3, .block_size = 16}};
  for (const verb how : {verb::literal, verb::scan, verb::step}) {
    const lists a = run(m, c, s, how), b = run(n, c, s, how);
    const auto last = [&](const lists& x) { return std::vector<std::int32_t>(&x(0, 199, 1, 0), &x(0, 199, 1, 0) + 3); };
    CHECK(last(a) == std::vector<std::int32_t>{0, 1, 2});
    CHECK(last(b) == std::vector<std::int32_t>{0, 1, 12});
  }
  c.k(0, 1, 0, 3) = std::numeric_limits<float>::quiet_NaN();
  for (const verb how : {verb::literal, verb::scan, verb::step}) {
    const lists a = run(m, c, s, how);
    CHECK(std::vector<std::int32_t>(&a(0, 199, 1, 0), &a(0, 199, 1, 0) + 3) == std::vector<std::int32_t>{0, 2, 3});
    CHECK(std::isfinite(c.o(0, 199, 1, 0)));
    const lists b = run(n, c, s, how);
    CHECK(std::vector<std::int32_t>(&b(0, 199, 1, 0), &b(0, 199, 1, 0) + 3) == std::vector<std::int32_t>{1, 2, 12});
    CHECK(std::isfinite(c.o(0, 199, 1, 0)));
  }
}

TEST_CASE("keep_best is what sorting gives") {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    const index n = 1 + static_cast<index>(random() % 60), count = static_cast<index>(random() % 20);
    std::vector<float> score(static_cast<std::size_t>(n)), work(score);
    for (float& x : score) x = random() % 9 == 0 ? -std::numeric_limits<float>::infinity() : static_cast<float>(random() % 12);
    std::vector<std::int32_t> order(score.size()), got(score.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)]; });
    order.resize(static_cast<std::size_t>(std::min(n, count)));
    std::sort(order.begin(), order.end());
    got.resize(static_cast<std::size_t>(weft::keep_best(score.data(), n, count, work.data(), got.data())));
    CHECK(got == order);
  }
}

TEST_CASE("lists that the caller gives are read, in both forms, and give the gradients of the choice that they were") {
  const sizes s{2, 150, 4, 2, 16, 8};
  const blocks chosen{.select = {.topk = 3, .block_size = 16}};
  call<float> c(s), d(s);
  const lists idx = run(chosen, c, s, verb::scan);
  const given fixed{.select = {.block_size = 16, .blocks = idx.view()}};
  std::vector<index> offsets{0};
  std::vector<std::int32_t> entries;
  for (index i = 0; i < idx.size(); ++i) {
    if (idx.data()[i] >= 0) entries.push_back(idx.data()[i]);
    if (i % 3 == 2) offsets.push_back(static_cast<index>(entries.size()));
  }
  const given csr{.select = {.block_size = 16,
                             .offsets = {offsets.data(), {static_cast<index>(offsets.size())}},
                             .entries = {entries.data(), {static_cast<index>(entries.size())}},
                             .heads = 4}};
  weft::cpu cpu;
  const auto gradients = [&](const auto& m) {
    call<float> g(s);
    std::vector<weft::array<float, 4>> out{weft::array<float, 4>(c.q.extent()), weft::array<float, 4>(c.k.extent()), weft::array<float, 4>(c.v.extent())};
    auto cache = fresh(m, s);
    weft::tape tape;
    weft::scan(cpu, m, g.inputs(m), cache, g.outputs(m), tape);
    auto d_cache = weft::state_gradient_t<std::remove_cvref_t<decltype(m)>>();
    weft::vjp(cpu, m, g.inputs(m), tape, {.o = c.o}, d_cache, {.q = out[0], .k = out[1], .v = out[2]});
    return out;
  };
  const auto wanted = gradients(chosen);
  for (const given& m : {fixed, csr}) {
    auto a = fresh(m, s), b = fresh(m, s);
    weft::scan(cpu, m, d.inputs(m), a, d.outputs(m));
    CHECK(same_bits(c.o, d.o));
    weft::literal(m, d.inputs(m), b, d.outputs(m));
    CHECK(largest_difference(c.o, d.o) <= 2e-6);
    const auto got = gradients(m);
    for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(got[i], wanted[i]));
  }
}

TEST_CASE("fewer list heads are shared, an empty list reads nothing, and all blocks are dense attention") {
  const sizes s{1, 100, 4, 2, 8, 8};
  lists shared({1, 100, 1, 4});
  for (index t = 0; t < 100; ++t)
    for (index i = 0; i < 4; ++i) shared(0, t, 0, i) = t == 50 ? -1 : static_cast<std::int32_t>(i);
  const given m{.select = {.block_size = 30, .blocks = shared.view()}};
  const weft::attention<float> dense;
  call<float> a(s), b(s);
  weft::cpu cpu;
  auto x = fresh(m, s);
  auto y = fresh(dense, s);
  weft::scan(cpu, m, a.inputs(m), x, a.outputs(m));
  weft::scan(cpu, dense, b.inputs(dense), y, b.outputs(dense));
  for (index h = 0; h < 4; ++h) {
    CHECK(a.o(0, 50, h, 2) == 0);
    CHECK(a.lse(0, 50, h) == -std::numeric_limits<float>::infinity());
    std::copy_n(&b.o(0, 50, h, 0), 8, &a.o(0, 50, h, 0));
  }
  CHECK(largest_difference(a.o, b.o) <= 1e-6);
}

TEST_CASE("bad selections are named before anything is written") {
  const sizes s{2, 40, 4, 2, 8, 8};
  call<float> c(s);
  weft::cpu cpu;
  const auto message = [&](const auto& m, weft::errc code = weft::errc::value) {
    std::fill_n(c.o.data(), c.o.size(), 7.f);
    std::string text;
    for (const bool literal : {false, true}) {
      text = refusal([&] {
        auto cache = given{}.state({.batch = 2, .heads = 2, .key_dim = 8, .value_dim = 8, .capacity = 40});
        if (literal) weft::literal(m, c.inputs(m), cache, c.outputs(m));
        else weft::scan(cpu, m, c.inputs(m), cache, c.outputs(m));
      }, code);
      CHECK((text == "no error" || c.o(1, 39, 3, 7) == 7.f));
    }
    return text;
  };
  lists good({2, 40, 4, 2});
  for (index i = 0; i < good.size(); ++i) good.data()[i] = static_cast<std::int32_t>(i % 2);
  const auto with = [&](std::initializer_list<std::int32_t> list) {
    lists l = good;
    std::copy(list.begin(), list.end(), &l(1, 7, 2, 0));
    return message(given{.select = {.block_size = 10, .blocks = l.view()}});
  };
  CHECK(with({0, 4}) == "weft: select: expected block numbers below 4, got 4 for query [1, 7, 2]");
  CHECK(with({1, 0}) == "weft: select: expected ascending block numbers, got 0 after 1 for query [1, 7, 2]");
  CHECK(with({2, 2}) == "weft: select: expected ascending block numbers, got 2 after 2 for query [1, 7, 2]");
  CHECK(with({-1, 2}) == "weft: select.blocks: expected nothing but -1 behind the first -1, got 2 for query [1, 7, 2]");
  CHECK(with({1, -7}) == "weft: select.blocks: expected nothing but -1 behind the first -1, got -7 for query [1, 7, 2]");
  CHECK(with({1, -1}) == "no error");
  CHECK(message(given{.select = {.block_size = 0, .blocks = good.view()}}).starts_with("weft: block_size: expected at least 1, got 0"));
  CHECK(message(given{.select = {.block_size = 10, .blocks = good.view().slice(1, 0, 39)}}, weft::errc::shape).starts_with("weft: select.blocks: expected [2, 40"));
  CHECK(message(given{.select = {.block_size = 10, .blocks = good.view().slice(2, 0, 3)}}, weft::errc::heads).starts_with("weft: select: expected lists for a head count"));
  CHECK(message(given{.select = {.block_size = 10}}, weft::errc::missing).starts_with("weft: select.blocks or select.offsets"));
  std::vector<index> offsets(81);
  const std::int32_t entry[] = {0};
  const auto compressed = [&] { return message(given{.select = {.block_size = 10, .offsets = {offsets.data(), {81}}, .entries = {entry, {1}}}}); };
  CHECK(compressed() == "no error");
  offsets[3] = 1;
  CHECK(compressed() == "weft: select.offsets: expected ascending numbers from 0 to 1, got 0 at 4");
  offsets.assign(81, 0), offsets[80] = 2;
  CHECK(compressed() == "weft: select.offsets: expected ascending numbers from 0 to 1, got 2 at 80");

  const weft::shape shape{.batch = 1, .heads = 1, .key_dim = 1, .value_dim = 1, .capacity = 8};
  CHECK(refusal([&] { tokens{.select = {.topk = 0}}.state(shape); }) == "weft: topk: expected at least 1, got 0");
  CHECK(refusal([&] { blocks{.select = {.topk = 0}}.state(shape); }) == "weft: topk: expected at least 1, got 0");
  CHECK(refusal([&] { blocks{.select = {.topk = 1, .block_size = 0}}.state(shape); }) == "weft: block_size: expected at least 1, got 0");
  const blocks m{.select = {.topk = 2, .block_size = 4}}, other{.select = {.topk = 2, .block_size = 8}}, ahead{.select = m.select, .causal = false};
  auto cache = fresh(m, s);
  CHECK(refusal([&] { weft::scan(cpu, other, c.inputs(other), cache, c.outputs(other)); }) == "weft: state: expected one for blocks of 8 keys, got one for 4");
  CHECK(refusal([&] { weft::scan(cpu, ahead, c.inputs(ahead), cache, c.outputs(ahead)); }).starts_with("weft: causal: expected true"));
  lists idx({2, 40, 4, 3});
  CHECK(refusal([&] { weft::scan(cpu, m, c.inputs(m), cache, {.o = c.o, .idx = idx}); }, weft::errc::shape) == "weft: idx: expected [2, 40, 4, 2], got [2, 40, 4, 3]");
}

TEST_CASE("means of blocks grow, are gathered and saved with their cache") {
  const sizes s{3, 70, 2, 1, 8, 8};
  const blocks m{.select = {.topk = 2, .block_size = 8}};
  call<float> c(s), d(s);
  weft::cpu cpu;
  auto cache = m.state({.batch = 3, .heads = 1, .key_dim = 8, .value_dim = 8, .capacity = 45});
  weft::scan(cpu, m, c.slice(m, 0, 45), cache, c.outputs(m, 0, 45));
  cache.grow(70);
  const auto file = std::filesystem::temp_directory_path() / ("weft-block-means-" + std::to_string(std::random_device{}()));
  weft::save(cache, file);
  auto restored = weft::restore(m, file);
  CHECK(refusal([&] { weft::restore(blocks{.select = {.topk = 2, .block_size = 4}}, file); }, weft::errc::shape) == "weft: pooled: expected 17 blocks of 4 keys, got 8");
  std::filesystem::remove(file);
  weft::scan(cpu, m, c.slice(m, 45, 25), restored, c.outputs(m, 45, 25));
  auto whole = fresh(m, s);
  weft::scan(cpu, m, d.inputs(m), whole, d.outputs(m));
  CHECK(same_bits(whole.pooled, restored.pooled));
  CHECK(largest_difference(c.o, d.o) <= 1e-6);
  CHECK(same_bits(whole.gather({2, 0}).gather({1}).pooled, whole.gather({0}).pooled));
}

TEST_CASE("bits do not depend on the number of threads where rows are gathered") {
  const sizes s{1, 3000, 4, 2, 16, 16};
  const blocks m{.select = {.topk = 4, .block_size = 64}};
  call<float> a(s), b(s);
  weft::cpu one;
  thread_team team{3};
  weft::cpu many(team);
  auto x = fresh(m, s), y = fresh(m, s);
  weft::scan(one, m, a.inputs(m), x, a.outputs(m));
  weft::scan(many, m, b.inputs(m), y, b.outputs(m));
  CHECK(same_bits(a.o, b.o));
  CHECK(same_bits(a.lse, b.lse));
  CHECK(same_bits(x.pooled, y.pooled));
}

TEST_CASE("finished results over any split of the keys merge, virtual keys among them") {
  const sizes s{2, 61, 4, 2, 8, 8};
  const weft::attention<float> dense;
  call<float> whole(s);
  weft::cpu cpu;
  auto cache = fresh(dense, s);
  weft::scan(cpu, dense, whole.inputs(dense), cache, whole.outputs(dense));
  const auto over = [&](index size, auto&& belongs) {  // the results over some blocks of keys
    lists chosen({2, 61, 1, (61 + size - 1) / size});
    std::fill_n(chosen.data(), chosen.size(), -1);
    for (index i = 0; i < 2 * 61; ++i)
      for (index c = 0, n = 0; c < chosen.extent(3); ++c)
        if (belongs(c)) chosen.data()[i * chosen.extent(3) + n++] = static_cast<std::int32_t>(c);
    const given m{.select = {.block_size = size, .blocks = chosen.view()}};
    call<float> part(s);
    auto own = fresh(m, s);
    weft::scan(cpu, m, part.inputs(m), own, part.outputs(m));
    return part;
  };
  for (const index size : {index(1), index(7), index(60)}) {
    std::vector<call<float>> parts;
    for (const index k : {0, 1, 2}) parts.push_back(over(size, [&](index c) { return c % 3 == k; }));  // some of them empty
    weft::merge(cpu, {weft::finished<float>{parts[0].o, parts[0].lse}, {parts[1].o, parts[1].lse}, {parts[2].o, parts[2].lse}}, parts[1].o.view(), parts[1].lse.view());
    CHECK(largest_difference(parts[1].o, whole.o) <= 1e-6);
    CHECK(largest_difference(parts[1].lse, whole.lse) <= 2e-6);
  }

  const weft::view<float, 4> odd(whole.o.data(), {2, -61, 4, 8});
  const weft::view<float, 3> odd_lse(whole.lse.data(), {2, -61, 4});
  CHECK_THROWS_WITH(weft::merge(cpu, {weft::finished<float>{odd, odd_lse}}, odd, odd_lse), Catch::Matchers::Contains("o: expected extents from 0 up"));

  // A key outside of every cache: its score and its value, for the last query.
  const call<float> first = over(60, [](index c) { return c == 0; });
  weft::array<float, 4> value({2, 1, 4, 8}), o(value);
  weft::array<float, 3> score({2, 1, 4});
  for (index b = 0; b < 2; ++b)
    for (index h = 0; h < 4; ++h) {
      for (index i = 0; i < 8; ++i) score(b, 0, h) += static_cast<float>(dense.scale_for(8)) * whole.q(b, 60, h, i) * whole.k(b, 60, h / 2, i);
      std::copy_n(&whole.v(b, 60, h / 2, 0), 8, &value(b, 0, h, 0));
    }
  const auto last = [](const auto& a) { return a.view().slice(1, 60, 1); };
  weft::merge(cpu, {weft::finished<float>{last(first.o), last(first.lse)}, {value, score}}, o.view());
  for (index b = 0; b < 2; ++b)
    for (index h = 0; h < 4; ++h)
      for (index i = 0; i < 8; ++i) CHECK(std::abs(o(b, 0, h, i) - whole.o(b, 60, h, i)) <= 1e-6f);

  weft::array<float, 4> nothing({2, 1, 4, 8});
  weft::merge(cpu, std::span<const weft::finished<float>>(), nothing.view(), score.view());
  CHECK(nothing(1, 0, 3, 7) == 0);
  CHECK(score(1, 0, 3) == -std::numeric_limits<float>::infinity());
  CHECK(refusal([&] { weft::merge(cpu, {weft::finished<float>{value, last(first.lse).slice(2, 0, 3)}}, o.view()); }, weft::errc::shape).starts_with("weft: part's lse: expected [2, 1, 4]"));
  CHECK(refusal([&] { weft::merge(cpu, {weft::finished<float>{value, score}}, o.view(), weft::view<float, 3>(value.data(), {2, 1, 4})); },
                weft::errc::overlap).starts_with("weft: lse: expected memory apart from a part's o"));
}

}  // namespace attention_test
