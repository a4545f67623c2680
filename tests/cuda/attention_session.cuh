// A call on attention with its tensors on the host and on the device.
#pragma once
#include <cmath>
#include <random>
#include <string>

#include <weft/attention/literal.hpp>
#include <weft/cuda.hpp>

namespace contract {

using weft::index;

struct attention_shape {
  index batch = 1, time = 1, heads = 1, query_heads = 1, key_dim = 8, value_dim = 8, capacity = 0;
  std::vector<index> cu{};

  index sequences() const { return cu.empty() ? batch : static_cast<index>(cu.size()) - 1; }
};

template <class M>
struct attention_session {
  using T = typename M::storage_type;
  using R = weft::accumulate_t<T>;

  M mixer;
  attention_shape x;
  weft::cuda gpu;
  weft::cpu host;
  std::mt19937 random{11};
  weft::array<T, 4> q, k, v, o;
  weft::array<R, 3> lse;
  weft::array<R, 1> sink;
  typename M::state_type cache;
  weft::on_device<typename M::state_type> there;
  weft::device_array<T, 4> q_, k_, v_, o_;
  weft::device_array<R, 3> lse_;
  weft::device_array<R, 1> sink_;

  attention_session(M m, attention_shape s) : mixer(m), x(s) {
    cache = mixer.state({.batch = x.sequences(), .heads = x.heads, .key_dim = x.key_dim, .value_dim = x.value_dim, .capacity = x.capacity});
    there = weft::copy(gpu, cache);
    sink = numbers<R, 1>({x.query_heads});
    sink_ = weft::copy(gpu, sink);
  }
  template <class E, int Rank>
  weft::array<E, Rank> numbers(std::array<index, Rank> extents) {
    std::normal_distribution<float> normal;
    weft::array<E, Rank> a(extents);
    for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<E>(normal(random));
    return a;
  }
  // New tensors of so many tokens a batch row.
  void draw(index time) {
    x.time = time;
    q = numbers<T, 4>({x.batch, time, x.query_heads, x.key_dim});
    k = numbers<T, 4>({x.batch, time, x.heads, x.key_dim});
    v = numbers<T, 4>({x.batch, time, x.heads, x.value_dim});
    o = weft::array<T, 4>({x.batch, time, x.query_heads, x.value_dim});
    lse = weft::array<R, 3>({x.batch, time, x.query_heads});
    q_ = weft::copy(gpu, q), k_ = weft::copy(gpu, k), v_ = weft::copy(gpu, v), o_ = weft::copy(gpu, o), lse_ = weft::copy(gpu, lse);
  }
  typename M::inputs inputs(bool sinks) { return {q, k, v, sinks ? typename weft::view<const R, 1>(sink.view()) : weft::view<const R, 1>{}}; }
  typename M::inputs inputs_there(bool sinks) { return {q_, k_, v_, sinks ? typename weft::view<const R, 1>(sink_.view()) : weft::view<const R, 1>{}}; }

  // RMS of the difference of outputs over RMS of the output; infinite where another part differs.
  double difference() {
    const auto got = weft::copy(host, o_);
    const auto got_lse = weft::copy(host, lse_);
    double wrong = 0, right = 0;
    for (index i = 0; i < o.size(); ++i) {
      const double e = static_cast<double>(static_cast<R>(o.data()[i])), g = static_cast<double>(static_cast<R>(got.data()[i]));
      if (!std::isfinite(e)) {
        if (std::isfinite(g)) return INFINITY;
        continue;
      }
      wrong += (g - e) * (g - e), right += e * e;
    }
    for (index i = 0; i < lse.size(); ++i) {
      const double e = lse.data()[i], g = got_lse.data()[i];
      if (std::isfinite(e) && !(std::abs(e - g) <= (sizeof(T) == 2 ? 2e-4 : tolerance()))) return INFINITY;
    }
    const auto back = weft::copy(host, there);
    bool same = back.length.size() == cache.length.size() && back.keys.size() == cache.keys.size();
    for (index i = 0; same && i < cache.length.size(); ++i) same = back.length(i) == cache.length(i);
    for (index i = 0; same && i < cache.keys.size(); ++i) same = static_cast<R>(back.keys.data()[i]) == static_cast<R>(cache.keys.data()[i]);
    for (index i = 0; same && i < cache.values.size(); ++i) same = static_cast<R>(back.values.data()[i]) == static_cast<R>(cache.values.data()[i]);
    if (!same) return INFINITY;
    return right > 0 ? std::sqrt(wrong / right) : std::sqrt(wrong);
  }
  static constexpr double tolerance() { return sizeof(T) == 2 ? 0.005 : 2e-6; }
};

}  // namespace contract
