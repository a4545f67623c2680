// Random attention calls, and the definition they are held to: softmax over an explicit mask, in double.
#pragma once
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <weft/attention/literal.hpp>
#include <weft/backend/cpu/attention.hpp>
#include <weft/core/verbs.hpp>

#include "catch.hpp"
#include "difference.hpp"

namespace attention_test {

using weft::index;

struct sizes {
  index batch = 1, time = 1, query_heads = 1, heads = 1, key_dim = 8, value_dim = 8;
};

template <class T>
struct call {
  weft::array<T, 4> q, k, v, o;
  weft::array<weft::accumulate_t<T>, 1> sink;
  weft::array<weft::accumulate_t<T>, 3> lse;

  explicit call(const sizes& s, unsigned seed = 1)
      : q({s.batch, s.time, s.query_heads, s.key_dim}), k({s.batch, s.time, s.heads, s.key_dim}), v({s.batch, s.time, s.heads, s.value_dim}),
        o({s.batch, s.time, s.query_heads, s.value_dim}), sink({s.query_heads}), lse({s.batch, s.time, s.query_heads}) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](auto& a) {
      for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<std::remove_cvref_t<decltype(a.data()[0])>>(normal(random));
    };
    fill(q), fill(k), fill(v), fill(sink);
  }
  template <class M>
  typename M::inputs inputs(const M&, bool with_sink = false) const {
    return {.q = q, .k = k, .v = v, .sink = with_sink ? sink.view() : weft::view<const weft::accumulate_t<T>, 1>()};
  }
  template <class M>
  typename M::inputs slice(const M& m, index first, index count, bool with_sink = false) const {
    auto in = inputs(m, with_sink);
    in.q = weft::view<const T, 4>(in.q).slice(1, first, count);
    in.k = weft::view<const T, 4>(in.k).slice(1, first, count);
    in.v = weft::view<const T, 4>(in.v).slice(1, first, count);
    return in;
  }
  template <class M>
  typename M::outputs outputs(const M&, index first = 0, index count = -1) {
    count = count < 0 ? o.extent(1) : count;
    return {.o = o.view().slice(1, first, count), .lse = lse.view().slice(1, first, count)};
  }
};

// o and lse of every query against every key that sees(position, key) admits, positions counted from the first key.
template <class T, class Sees>
void naive(const call<T>& c, double scale, double softcap, bool sink, Sees&& sees, weft::array<double, 4>& o, weft::array<double, 3>& lse) {
  const auto e = c.q.extent();
  const index group = e[2] / c.k.extent(2), V = c.v.extent(3);
  o = weft::array<double, 4>({e[0], e[1], e[2], V});
  lse = weft::array<double, 3>({e[0], e[1], e[2]});
  for (index b = 0; b < e[0]; ++b)
    for (index t = 0; t < e[1]; ++t)
      for (index h = 0; h < e[2]; ++h) {
        std::vector<double> x(static_cast<std::size_t>(e[1]), -std::numeric_limits<double>::infinity());
        double top = sink ? static_cast<double>(c.sink(h)) : -std::numeric_limits<double>::infinity();
        for (index j = 0; j < e[1]; ++j)
          if (sees(t, j)) {
            double s = 0;
            for (index i = 0; i < e[3]; ++i) s += static_cast<double>(c.q(b, t, h, i)) * static_cast<double>(c.k(b, j, h / group, i));
            s *= scale;
            x[static_cast<std::size_t>(j)] = softcap > 0 ? softcap * std::tanh(s / softcap) : s;
            top = std::max(top, x[static_cast<std::size_t>(j)]);
          }
        lse(b, t, h) = top;
        if (std::isinf(top)) continue;
        double sum = sink ? std::exp(static_cast<double>(c.sink(h)) - top) : 0;
        for (index j = 0; j < e[1]; ++j)
          if (sees(t, j)) {
            const double p = std::exp(x[static_cast<std::size_t>(j)] - top);
            sum += p;
            for (index i = 0; i < V; ++i) o(b, t, h, i) += p * static_cast<double>(c.v(b, j, h / group, i));
          }
        for (index i = 0; i < V; ++i) o(b, t, h, i) /= sum;
        lse(b, t, h) = top + std::log(sum);
      }
}

using test::largest_difference;

template <class A>
bool same_bits(const A& a, const A& b) {
  return a.extent() == b.extent() && (a.size() == 0 || std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

// Worker threads made for each region: slow, and enough to test that results do not depend on them.
struct thread_team {
  int count;
  int workers() const { return count; }
  template <class F>
  void parallel_for(index n, F f) {
    std::atomic<index> next{0};
    std::vector<std::thread> team;
    for (int w = 0; w < count; ++w)
      team.emplace_back([&, w] {
        for (index i; (i = next++) < n;) f(i, w);
      });
    for (auto& t : team) t.join();
  }
};

}  // namespace attention_test
