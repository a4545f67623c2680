// Where a policy meets the gradients: its two maps, its gates and its output hook by forward differentiation, summed over what
// each input's role broadcasts. The only code of the backward pass that knows a policy.
#pragma once
#include "../../math/dual.hpp"
#include "elementwise.hpp"
#include "recurrence_load.hpp"
#include "recurrence_vjp_scan.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Where one input's gradients go: straight to the caller's view, or first to rows of every value head that are summed later.
struct gradient_sink {
  void* data = nullptr;  // null: not wanted
  index batch = 0, row = 0, head = 0;  // strides; `batch` is between sequences for constants, whose tokens are added up
  bool wide = false;     // elements are of the accumulating type
};

template <class P, class T, class S>
class policy_gradients : public policy_source<P, T, S> {
  using base = policy_source<P, T, S>;
  using M = recurrence<P, T, S>;
  using R = accumulate_t<T>;
  using V = simd<R>;
  using D = dual<V>;
  using base::extents_, base::in_, base::policy_, base::scale_, base::unit_;
  static constexpr axes A = P::axes;
  static constexpr int W = V::width;
  static constexpr std::size_t inputs = input_count<P>;
  static constexpr auto all = std::make_index_sequence<inputs>{};
  using traits = chunk_traits<A>;
  template <std::size_t I>
  using stored = std::conditional_t<role_of<P, I, T>.wide, R, T>;
  template <std::size_t I>
  static constexpr role role_at = role_of<P, I, T>;
  template <std::size_t I>
  static constexpr bool is_gate_at = role_at<I>.width == width::one;

 public:
  std::array<gradient_sink, inputs> sinks{};

  policy_gradients(const M& mixer, const typename M::inputs& in, const typename M::cotangents& d_out, const recurrence_extents& x)
      : base(mixer, in, {}, x), d_out_(d_out) {}

  gradient_source<R> gradients() const {
    return {.forward = this->source(),
            .self = this,
            .cotangents = [](const void* s, const chunk<R>& c, const record_views<R>& record, const row_place& at, int n, R* errors, index ld) {
              static_cast<const policy_gradients*>(s)->load_cotangents(c, record, at, n, errors, ld);
            },
            .pull = [](const void* s, const chunk<R>& c, const chunk_gradients<R>& d, const record_views<R>& record, const row_place& at, int n) {
              static_cast<const policy_gradients*>(s)->pull_rows(c, d, record, at, n);
            }};
  }

 private:
  // Whether a map over channels of this width sees input I; gates are seen by all.
  template <width Width, std::size_t I>
  static constexpr bool sees = role_at<I>.width == Width || is_gate_at<I>;

  // The numbers of a lane as constants, but input I as the variable.
  template <std::size_t I>
  WEFT_INLINE static lanes_of<P, D> by_input(const lanes_of<P, V>& lane) {
    return [&]<std::size_t... M>(std::index_sequence<M...>) __attribute__((always_inline)) {
      const auto numbers = tie_members(lane);
      return lanes_of<P, D>{D(std::get<M>(numbers), V(R(M == I ? 1 : 0)), M == I)...};
    }(all);
  }

  // sum += by * derivative, where there is one.
  WEFT_INLINE static void add(V& sum, V by, const D& x) {
    if (x.live) sum = fma(by, x.d, sum);
  }

  // The first element of input I's gradient for a row, in its own type or (wide) the accumulating one; null: not wanted.
  template <std::size_t I>
  WEFT_INLINE void* target(const row_place& at) const {
    const gradient_sink& s = sinks[I];
    if (!s.data) return nullptr;
    const index offset = (role_at<I>.time ? at.b * s.batch + at.row * s.row : at.sequence * s.batch) + at.h * s.head;
    return s.wide ? static_cast<void*>(static_cast<R*>(s.data) + offset) : static_cast<void*>(static_cast<stored<I>*>(s.data) + offset);
  }
  using targets = std::array<void*, inputs>;

  // Writes `count` lanes at i; to a constant's gradient, which all tokens share, they are added.
  template <std::size_t I>
  WEFT_INLINE void put(const targets& to, index i, V x, index count) const {
    if (!to[I]) return;
    const auto write = [&](auto* p) __attribute__((always_inline)) {
      if constexpr (!role_at<I>.time) x += count >= W ? weft::load(p) : weft::load(p, count);
      if (count >= W) weft::store(p, x);
      else weft::store(p, x, count);
    };
    if (std::is_same_v<R, stored<I>> || sinks[I].wide) write(static_cast<R*>(to[I]) + i);
    else write(static_cast<stored<I>*>(to[I]) + i);
  }

  // The cotangent row of o, or null.
  template <class F>
  WEFT_INLINE void visit_cotangent(F&& f) const {
    d_out_.o.visit([&](const auto& o) __attribute__((always_inline)) { f(o); });
  }
  bool reads(index row) const { return !A.micro_steps || row % extents_.micro == extents_.micro - 1; }
  index token_of(index row) const { return A.micro_steps ? row / extents_.micro : row; }

  [[gnu::noinline]] void load_cotangents(const chunk<R>& c, const record_views<R>& record, const row_place& at, int n, R* errors, index ld) const {
    [[maybe_unused]] const index padded = (c.tokens + W - 1) / W * W;
    const P& policy = policy_;
    const index value_dim = extents_.value_dim;
    std::fill(errors + n * ld, errors + c.tokens * ld, R(0));
    visit_cotangent([&](const auto& o) {
      for (int t = 0; t < n; ++t) {
        R* const e = errors + t * ld;
        if (o.null() || !reads(at.row + t)) {
          std::fill_n(e, ld, R(0));
          continue;
        }
        const auto* const p = o.data + at.b * o.stride[0] + token_of(at.row + t) * o.stride[1] + at.h * o.stride[2];
        [[maybe_unused]] const auto rows = this->rows_of(at.b, at.h, at.row + t, all);
        const R share = A.normalised ? R(1) / record.denominators(at.b, at.row + t, at.h) : R(1);
        [[maybe_unused]] const R* const y = records_reads<P> ? &record.reads(at.b, at.row + t, at.h, 0) : nullptr;
        V product(R(0));  // of the gradient with the normalised read
        const auto one = [&](index j, index count, auto whole) {
          V x = whole() ? weft::load(p + j) : weft::load(p + j, count);
          if constexpr (records_reads<P>) {
            const V read = V(share) * (whole() ? V::load(y + j) : weft::load(y + j, count));
            if constexpr (has_output<P>) {
              const auto lane = this->template lanes_at<width::value_dim, decltype(whole)::value>(c.gates + t, padded, rows, nullptr, j, count, all);
              const D out = policy.template output<D>(by_input<inputs>(lane), D::variable(read));
              x = out.live ? x * out.d : V(R(0));
            }
            if constexpr (A.normalised) product = fma(x, read, product);
          }
          x *= V(share);
          if (whole()) x.store(e + j);
          else weft::store(e + j, x, count);
        };
        index j = 0;
        for (; j + W <= value_dim; j += W) one(j, W, std::true_type{});
        if (j < value_dim) one(j, value_dim - j, std::false_type{});
        std::fill(e + value_dim, e + ld, R(0));
        if constexpr (A.normalised) e[value_dim] = -lane_sum(product) * share;
      }
    });
  }

  [[gnu::noinline]] void pull_rows(const chunk<R>& c, const chunk_gradients<R>& gradients, const record_views<R>& record, row_place at, int n) const {
    const chunk_gradients<R> d = gradients;  // a copy of its own: vector stores may alias any pointer in memory
    const index padded = (c.tokens + W - 1) / W * W, first = at.row;
    R by_gate[inputs][vjp_tile<R>().tokens + W] = {};  // of the activated gates, per token
    for (int t = 0; t < n; ++t) {
      at.row = first + t;
      const auto rows = this->rows_of(at.b, at.h, at.row, all);
      const targets to = targets_of(at, all);
      V sums[inputs];
      for (V& s : sums) s = V(R(0));
      pull_keys(c, d, rows, to, at, t, padded, sums);
      pull_values(c, d, record, rows, to, at, t, padded, sums);
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        ([&] {
          if constexpr (is_gate_at<I>) by_gate[I][t] = lane_sum(sums[I]);
        }(), ...);
      }(all);
    }
    at.row = first;
    pull_gates(d, at, n, by_gate);
  }

  template <std::size_t... I>
  WEFT_INLINE targets targets_of(const row_place& at, std::index_sequence<I...>) const { return {target<I>(at)...}; }

  // Gradients by the inputs of key width, of one row; those by gates are added to `sums`.
  WEFT_INLINE void pull_keys(const chunk<R>& c, const chunk_gradients<R>& d, const auto& rows, const targets& to, const row_place& at, int t, index padded, V (&sums)[inputs]) const {
    const P& policy = policy_;
    const index keys = c.keys, key_dim = extents_.key_dim, q = (traits::erases ? c.tokens : 0) * keys, row = t * keys;
    R inverse[inputs];
    [&]<std::size_t... I>(std::index_sequence<I...>) { ((inverse[I] = this->template inverse_length<I>(std::get<I>(rows))), ...); }(all);
    const V scale(reads(at.row) ? scale_ : R(0));
    const bool unit = unit_, decays = !A.micro_steps || at.row % extents_.micro == 0;
    V along[inputs];  // products of unit keys with their gradients
    for (V& x : along) x = V(R(0));
    const auto one = [&](index i, index count, auto whole) __attribute__((always_inline)) {
      const auto lane = this->template lanes_at<width::key_dim, decltype(whole)::value>(c.gates + t, padded, rows, inverse, i, count, all);
      V by_q = V::load(d.readers + q + row + i), by_k = V::load(d.writers + row + i), by_c(R(0)), by_p(R(0)), by_g(R(0)), by_u(R(0));
      if constexpr (traits::erases) by_c = V::load(d.readers + row + i);
      if constexpr (traits::writers == 2) by_p = V::load(d.writers + c.tokens * keys + row + i);
      if constexpr (traits::channel)
        if (decays) by_g = V::load(d.decay + row + i);
      if constexpr (traits::exclusive) {
        const auto term = policy.template key_side<V>(lane);
        const V bonus(d.bonus[t]), qs = term.q * scale;
        by_q = fma(bonus * term.u, term.k, by_q);
        by_k = fma(bonus * term.u, qs, by_k);
        by_u = bonus * qs * term.k;
      }
      by_q *= scale;
      auto numbers = tie_members(lane);
      [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
        ([&]() __attribute__((always_inline)) {
          if constexpr (sees<width::key_dim, I>) {
            const auto term = policy.template key_side<D>(by_input<I>(lane));
            V sum(R(0));
            add(sum, by_q, term.q);
            add(sum, by_k, term.k);
            if constexpr (traits::erases) add(sum, by_c, term.c);
            if constexpr (traits::writers == 2) add(sum, by_p, term.p);
            if constexpr (traits::channel) add(sum, by_g, term.g);
            if constexpr (traits::exclusive) add(sum, by_u, term.u);
            if constexpr (is_gate_at<I>) {
              sums[I] += whole() ? sum : first_lanes(sum, count);
            } else if constexpr (base::template is_unit<I>) {
              if (unit) {
                along[I] = fma(std::get<I>(numbers), whole() ? sum : first_lanes(sum, count), along[I]);
                sum.store(d.units + static_cast<index>(I) * keys + i);
              } else {
                put<I>(to, i, sum, count);
              }
            } else {
              put<I>(to, i, sum, count);
            }
          }
        }(), ...);
      }(all);
    };
    index i = 0;
    for (; i + W <= key_dim; i += W) one(i, W, std::true_type{});
    if (i < key_dim) one(i, key_dim - i, std::false_type{});
    if (unit)
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        ([&] {
          if constexpr (base::template is_unit<I>) turn_unit<I>(to, d.units + static_cast<index>(I) * keys, std::get<I>(rows), inverse[I], lane_sum(along[I]));
        }(), ...);
      }(all);
  }

  static V first_lanes(V x, index count) {
    R lanes[W];
    x.store(lanes);
    return weft::load(static_cast<const R*>(lanes), count);
  }

  // From the gradient by a unit key y = x r to that by x: r (dy - y (y . dy)).
  template <std::size_t I>
  void turn_unit(const targets& to, const R* dy, const stored<I>* x, R r, R along) const {
    if (!x) return;
    for_lanes<R>(extents_.key_dim, [&](index i, auto lane) {
      const index count = std::min<index>(W, extents_.key_dim - i);
      put<I>(to, i, V(r) * (V::load(dy + i) - V(r * along) * get(x + i, lane)), count);
    });
  }

  // The same by the inputs of value width, through write() and the output hook.
  WEFT_INLINE void pull_values(const chunk<R>& c, const chunk_gradients<R>& d, const record_views<R>& record, const auto& rows, const targets& to, const row_place& at, int t,
                               index padded, V (&sums)[inputs]) const {
    const P& policy = policy_;
    const index value_dim = extents_.value_dim;
    visit_cotangent([&](const auto& o) __attribute__((always_inline)) {
      [[maybe_unused]] const bool hooked = has_output<P> && !o.null() && reads(at.row);
      const auto one = [&](index j, index count, auto whole) __attribute__((always_inline)) {
        const auto lane = this->template lanes_at<width::value_dim, decltype(whole)::value>(c.gates + t, padded, rows, nullptr, j, count, all);
        const V by_z = V::load(d.z + t * c.columns + j);
        V by_out(R(0)), read(R(0));
        if constexpr (has_output<P>)
          if (hooked) {
            const auto* const p = o.data + at.b * o.stride[0] + token_of(at.row) * o.stride[1] + at.h * o.stride[2] + j;
            const R* const y = &record.reads(at.b, at.row, at.h, j);
            by_out = whole() ? weft::load(p) : weft::load(p, count);
            read = whole() ? V::load(y) : weft::load(y, count);
            if constexpr (A.normalised) read *= V(R(1) / record.denominators(at.b, at.row, at.h));
          }
        [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
          ([&]() __attribute__((always_inline)) {
            if constexpr (sees<width::value_dim, I>) {
              const auto variable = by_input<I>(lane);
              V sum(R(0));
              add(sum, by_z, policy.template write<D>(variable));
              if constexpr (has_output<P>) add(sum, by_out, policy.template output<D>(variable, D(read)));
              if constexpr (is_gate_at<I>) sums[I] += whole() ? sum : first_lanes(sum, count);
              else put<I>(to, j, sum, count);
            }
          }(), ...);
        }(all);
      };
      index j = 0;
      for (; j + W <= value_dim; j += W) one(j, W, std::true_type{});
      if (j < value_dim) one(j, value_dim - j, std::false_type{});
    });
  }

  // From activated gates, and a scalar decay, to the raw ones: vectors over tokens.
  void pull_gates(const chunk_gradients<R>& d, row_place at, int n, const R (&by_gate)[inputs][vjp_tile<R>().tokens + W]) const {
    const P& policy = policy_;
    const index first = at.row;
    for (int t0 = 0; t0 < n; t0 += W) {
      const int count = std::min(n - t0, W);
      lanes_of<P, V> raw{};
      for_each_member(raw, [&](V& x, auto m) {
        R lanes[W] = {};
        if constexpr (is_gate_at<m>)
          for (int t = 0; t < count; ++t)
            if (const auto* p = this->template row_of<m>(at.b, at.h, first + t0 + t)) lanes[t] = static_cast<R>(*p);
        x = V::load(lanes);
      });
      V by_decay(R(0));
      if constexpr (traits::scalar) {
        R lanes[W] = {};
        for (int t = 0; t < count; ++t)
          if (!A.micro_steps || (first + t0 + t) % extents_.micro == 0) lanes[t] = d.decay[t0 + t];
        by_decay = V::load(lanes);
      }
      for_each_member(raw, [&](const V&, auto m) {
        if constexpr (is_gate_at<m>) {
          auto gates = by_input<m>(raw);
          if constexpr (has_activate<P>) policy.template activate<D>(gates);
          V sum(R(0));
          for_each_member(gates, [&](const D& gate, auto g) {
            if constexpr (is_gate_at<g>) add(sum, V::load(by_gate[g] + t0), gate);
          });
          if constexpr (traits::scalar) add(sum, by_decay, policy.template key_side<D>(gates).g);
          R lanes[W];
          sum.store(lanes);
          for (int t = 0; t < count; ++t) {
            at.row = first + t0 + t;
            put_number<m>(this->template target<m>(at), lanes[t]);
          }
        }
      });
    }
  }

  template <std::size_t I>
  void put_number(void* to, R x) const {
    const auto write = [&](auto* p) { *p = static_cast<std::remove_reference_t<decltype(*p)>>(role_at<I>.time ? x : *p + x); };
    if (!to) return;
    if (sinks[I].wide) write(static_cast<R*>(to));
    else write(static_cast<stored<I>*>(to));
  }

  typename M::cotangents d_out_;
};

}  // namespace WEFT_ISA
}  // namespace weft
