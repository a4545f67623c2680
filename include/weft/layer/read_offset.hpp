// A learned tensor that is added to every state where it is read, and never written: o_t = (S_t + D)^T q_t.
//
// The state-offset form of tuning (suffix tuning of Kang et al. 2025, arXiv 2503.03499, in the form of their code). Unlike a tuned
// initial state it costs a second read a token. q as the delta rules read it: of unit length, over the root of key_dim.
#pragma once
#include <cmath>

#include "../backend/cpu/elementwise.hpp"
#include "../core/array.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// q of one token and head to `unit`; returns what it was divided by.
template <class R>
R unit_query(const R* q, R* unit, index dim, R eps) {
  R sum = 0;
  for (index i = 0; i < dim; ++i) sum += q[i] * q[i];
  const R root = std::sqrt(sum + eps);
  for (index i = 0; i < dim; ++i) unit[i] = q[i] / root;
  return root;
}

template <class R>
void check_offset(const array<R, 3>& offset, const view<const R, 4>& q, const view<const R, 4>& o) {
  const index heads = q.extent[2];
  check::tensor("q", q, q.extent, false, true);
  check::tensor("o", o, {q.extent[0], q.extent[1], o.extent[2], o.extent[3]}, false, true);
  require(heads > 0 && o.extent[2] % heads == 0, errc::heads, "q: expected heads that divide ", o.extent[2], " value heads, got ", heads);
  check::tensor<const R, 3>("read_offset", offset, {o.extent[2], q.extent[3], o.extent[3]}, false, true);
}

}  // namespace detail

// Adds D^T q to o [B, T, HV, V]; q [B, T, H, K], offset [HV, K, V]. O(B T HV K V). Throws errc::shape, errc::missing, errc::heads,
// errc::overlap.
template <class R>
void read_offset(cpu& executor, const array<R, 3>& offset, std::type_identity_t<view<const R, 4>> q, std::type_identity_t<view<R, 4>> o, double eps = 1e-6) {
  detail::check_offset<R>(offset, q, o);
  check::result("o", o, o.extent, false, true);
  check::apart({{"o", o}}, {{"read_offset", offset.view()}, {"q", q}});
  const index K = q.extent[3], V = o.extent[3], group = o.extent[2] / q.extent[2];
  const R scale = static_cast<R>(1.0 / std::sqrt(static_cast<double>(K)));
  executor.reserve(static_cast<std::size_t>(K) * sizeof(R));
  executor.parallel_for(o.extent[0] * o.extent[2], [&](index task, int worker) {
    R* const unit = reinterpret_cast<R*>(executor.scratch(worker));
    const index b = task / o.extent[2], h = task % o.extent[2];
    for (index t = 0; t < o.extent[1]; ++t) {
      detail::unit_query(&q(b, t, h / group, 0), unit, K, static_cast<R>(eps));
      R* const to = &o(b, t, h, 0);
      for (index i = 0; i < K; ++i) {
        const simd<R> x(unit[i] * scale);
        for_lanes<R>(V, [&](index c, auto lane) { put(to + c, fma(x, get(&offset(h, i, 0) + c, lane), get(to + c, lane)), lane); });
      }
    }
  });
}

// From d_o [B, T, HV, V]: adds to d_q [B, T, H, K] and to d_offset; either null: not wanted. The same bits for any number of workers.
// Throws as read_offset.
template <class R>
void read_offset_vjp(cpu& executor, const array<R, 3>& offset, std::type_identity_t<view<const R, 4>> q, std::type_identity_t<view<const R, 4>> d_o,
                     std::type_identity_t<view<R, 4>> d_q, array<R, 3>* d_offset, double eps = 1e-6) {
  detail::check_offset<R>(offset, q, d_o);
  const auto d_numbers = d_offset ? d_offset->view() : view<R, 3>();
  check::result("d_q", d_q, q.extent, true, true);
  check::tensor("d_read_offset", d_numbers, offset.extent(), true, true);
  check::apart({{"d_q", d_q}, {"d_read_offset", d_numbers}}, {{"read_offset", offset.view()}, {"q", q}, {"d_o", d_o}});
  const index K = q.extent[3], V = d_o.extent[3], group = d_o.extent[2] / q.extent[2];
  const R scale = static_cast<R>(1.0 / std::sqrt(static_cast<double>(K)));
  executor.reserve(2 * static_cast<std::size_t>(K) * sizeof(R));
  executor.parallel_for(q.extent[2], [&](index key_head, int worker) {
    R* const unit = reinterpret_cast<R*>(executor.scratch(worker));
    R* const d_unit = unit + K;
    for (index h = key_head * group; h < (key_head + 1) * group; ++h)
      for (index b = 0; b < q.extent[0]; ++b)
        for (index t = 0; t < q.extent[1]; ++t) {
          const R root = detail::unit_query(&q(b, t, key_head, 0), unit, K, static_cast<R>(eps));
          const R* const from = &d_o(b, t, h, 0);
          R along = 0;
          for (index i = 0; i < K; ++i) {
            simd<R> sum(R(0));
            const simd<R> x(unit[i] * scale);
            for_lanes<R>(V, [&](index c, auto lane) {
              const simd<R> d = get(from + c, lane);
              sum = fma(d, get(&offset(h, i, 0) + c, lane), sum);
              if (!d_numbers.null()) put(&d_numbers(h, i, 0) + c, fma(x, d, get(&d_numbers(h, i, 0) + c, lane)), lane);
            });
            d_unit[i] = scale * lane_sum(sum);
            along += d_unit[i] * unit[i];
          }
          for (index i = 0; !d_q.null() && i < K; ++i) d_q(b, t, key_head, i) += (d_unit[i] - along * unit[i]) / root;
        }
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
