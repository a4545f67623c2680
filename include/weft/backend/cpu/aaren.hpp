// Aaren on the CPU, in three passes: scores (parallel over tokens), maxima and weights (one head's numbers, few), and the scan
// of the values, whose channels know nothing of each other and are split over workers. Every token's arithmetic is the same
// wherever a sequence is cut and whoever runs it.
#pragma once
#include "../../attention/aaren_check.hpp"
#include "../../core/verbs.hpp"
#include "attention_rows.hpp"
#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// The numbers of all tokens and heads that both directions begin with.
template <class T>
struct aaren_weights {
  using R = accumulate_t<T>;
  static constexpr index ahead = 8;    // tokens: rows of one head lie in different pages, which no hardware fetches ahead

  view<R, 2> query;                    // [H, K in whole vectors], scaled
  view<R, 3> right, left, inverse;     // [B, H, T]: what a token multiplies itself by, what the sums before it, and 1 / c
  index key_dim = 0;

  aaren_weights(temporaries::scope& memory, const attention_extents& x) : key_dim(x.key_dim) {
    query = memory.take<R>(x.heads, round_up_to_lanes<R>(x.key_dim));
    for (view<R, 3>* numbers : {&right, &left, &inverse}) *numbers = memory.take<R>(x.batch, x.heads, x.time);
  }

  void scale_queries(const typename aaren<T>::inputs& in, R scale) const {
    for (index h = 0; h < query.extent[0]; ++h)
      for_lanes<R>(key_dim, [&](index i, auto lane) { (get(&in.q(h, i), lane) * simd<R>(scale)).store(&query(h, i)); });
  }

  // right = q . k, for now.
  void score(const typename aaren<T>::inputs& in, index b, index h, index begin, index end) const {
    for (index t = begin; t < end; ++t) {
      simd<R> dot(R(0));
      if (key_dim > 0) {
        const T* const k = &in.k(b, t, h, 0);
        const R* const q = &query(h, 0);
        if (t + ahead < end) fetch(k + ahead * in.k.stride[1], key_dim);
        for_lanes<R>(key_dim, [&](index i, auto lane) { dot = fma(simd<R>::load(q + i), get(k + i, lane), dot); });
      }
      right(b, h, t) = lane_sum(dot);
    }
  }

  // Scores become weights; m and c go from before the tokens to after them. The token whose score is the maximum, or one
  // before the first.
  index weigh(const token_span& tokens, index h, R& m, R& c) const {
    R* const r = &right(tokens.batch, h, tokens.begin);
    R* const l = &left(tokens.batch, h, tokens.begin);
    R* const i = &inverse(tokens.batch, h, tokens.begin);
    constexpr R nothing = -std::numeric_limits<R>::infinity();
    index top = -1;
    for (index t = 0; t < tokens.count(); ++t) {
      const R before = m;
      if (!(m > r[t])) m = r[t], top = t;  // as softmax_weights has it
      const R safe = m == nothing ? R(0) : m;
      l[t] = before - safe;
      r[t] = r[t] - safe;
    }
    for_lanes<R>(tokens.count(), [&](index t, auto lane) {
      put(l + t, exp_nonpositive(get(l + t, lane)), lane);
      put(r + t, exp_nonpositive(get(r + t, lane)), lane);
    });
    for (index t = 0; t < tokens.count(); ++t) {
      c = l[t] * c + r[t];
      i[t] = c == R(0) ? R(0) : R(1) / c;
    }
    return tokens.begin + top;
  }

  template <class X>
  WEFT_INLINE static void fetch(const X* row, index width) {
    for (index i = 0; i < width; i += 64 / static_cast<index>(sizeof(X))) __builtin_prefetch(row + i);
  }
};

template <class T>
class aaren_call {
  using mixer_type = aaren<T>;
  using R = accumulate_t<T>;
  static constexpr index W = simd<R>::width;
  static constexpr int vectors = 8;          // of a panel of channels: their sums stay in registers
  static constexpr index panel = vectors * W;
  static constexpr index block = 256;        // tokens of a task of the first pass
  static constexpr index one_task = 16;      // tokens up to which a head is one task
  static constexpr index ahead = aaren_weights<T>::ahead;

 public:
  aaren_call(cpu& executor, const mixer_type& mixer, const typename mixer_type::inputs& in, aaren_state<R>& state, const typename mixer_type::outputs& out,
             std::span<const index> cu)
      : executor_(executor), in_(in), state_(state), out_(out), cu_(cu), x_(check_aaren(mixer, in, state, out, cu)),
        scale_(static_cast<R>(mixer.scale_for(x_.key_dim))) {
    if (x_.time > 0) run();
  }

 private:
  void run() {
    temporaries::scope shared(executor_.temporaries());
    const aaren_weights<T> w(shared, x_);
    if (executor_.rehearsing()) return;

    w.scale_queries(in_, scale_);
    const index heads = x_.sequences * x_.heads, panels = (x_.value_dim + panel - 1) / panel, blocks = (x_.time + block - 1) / block;
    if (x_.time <= one_task) {
      executor_.parallel_for(heads, [&](index task, int) {
        const index n = task / x_.heads, h = task % x_.heads;
        const token_span t = tokens_of(x_, cu_, n);
        w.score(in_, t.batch, h, t.begin, t.end);
        weigh(w, n, h);
        for (index p = 0; p < panels; ++p) sum(w, n, h, p * panel);
      });
      return;
    }
    executor_.parallel_for(x_.batch * x_.heads * blocks, [&](index task, int) {
      const index begin = task % blocks * block;
      w.score(in_, task / blocks / x_.heads, task / blocks % x_.heads, begin, std::min(begin + block, x_.time));
    });
    executor_.parallel_for(heads, [&](index task, int) { weigh(w, task / x_.heads, task % x_.heads); });
    executor_.parallel_for(heads * panels, [&](index task, int) { sum(w, task / panels / x_.heads, task / panels % x_.heads, task % panels * panel); });
  }

  void weigh(const aaren_weights<T>& w, index n, index h) {
    const token_span tokens = tokens_of(x_, cu_, n);
    if (tokens.count() > 0) w.weigh(tokens, h, state_.m(n, h), state_.c(n, h));
  }

  // The channels [first, first + panel): the sums stay in registers for the whole sequence.
  void sum(const aaren_weights<T>& w, index n, index h, index first) {
    const token_span tokens = tokens_of(x_, cu_, n);
    const index width = std::min(panel, x_.value_dim - first);
    R* const state = &state_.a(n, h, first);
    out_.o.visit([&](const auto& o) {
      const auto with = [&](auto whole) {
        simd<R> a[vectors];
        each_vector<whole()>(width, [&](int i, auto lane) { a[i] = get(state + i * W, lane); });
        for (index t = tokens.begin; t < tokens.end; ++t) {
          const T* const v = &in_.v(tokens.batch, t, h, first);
          auto* const to = &o(tokens.batch, t, h, first);
          if (t + ahead < tokens.end) {
            w.fetch(v + ahead * in_.v.stride[1], width);
            w.fetch(to + ahead * o.stride[1], width);
          }
          const simd<R> left(w.left(tokens.batch, h, t)), right(w.right(tokens.batch, h, t)), inverse(w.inverse(tokens.batch, h, t));
          each_vector<whole()>(width, [&](int i, auto lane) {
            a[i] = fma(left, a[i], right * get(v + i * W, lane));
            put(to + i * W, a[i] * inverse, lane);
          });
        }
        each_vector<whole()>(width, [&](int i, auto lane) { put(state + i * W, a[i], lane); });
      };
      if (width == panel) with(std::true_type{});
      else with(std::false_type{});
    });
  }
  template <bool Whole, class F>
  WEFT_INLINE static void each_vector(index width, F&& f) {
    if constexpr (Whole) {
      WEFT_UNROLL for (int i = 0; i < vectors; ++i) f(i, whole_vector{});
    } else {
      for_lanes<R>(width, [&](index c, auto lane) { f(static_cast<int>(c / W), lane); });
    }
  }

  cpu& executor_;
  const typename mixer_type::inputs in_;
  aaren_state<R>& state_;
  const typename mixer_type::outputs out_;
  std::span<const index> cu_;
  const attention_extents x_;
  const R scale_;
};

}  // namespace detail

template <class T>
void run_scan(cpu& executor, const aaren<T>& mixer, const typename aaren<T>::inputs& in, aaren_state<accumulate_t<T>>& state,
              const typename aaren<T>::outputs& out, std::span<const index> cu) {
  detail::aaren_call<T>(executor, mixer, in, state, out, cu);
}

template <class T>
void run_step(cpu& executor, const aaren<T>& mixer, const typename aaren<T>::inputs& in, aaren_state<accumulate_t<T>>& state,
              const typename aaren<T>::outputs& out) {
  require(in.k.null() || in.k.extent[1] == 1, errc::shape, "k: expected one token a step, got ", in.k.null() ? 0 : in.k.extent[1]);
  run_scan(executor, mixer, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
