// Gradients of the norms. With n = u r the normalised numbers and r the inverse root of their mean square (or sum),
//
//   d_u = r (d_n - n mean(n d_n))          for l2 norms the sum
//
// in rows of the accumulating type. A null view is a gradient that is not wanted; those of weights are added to.
#pragma once
#include "../backend/cpu/row_sums.hpp"
#include "activation_vjp.hpp"
#include "norm.hpp"

namespace weft {
inline namespace WEFT_ISA {

// x, z and weight as rms_norm_gated had them; d_o, d_x and d_z [B, T, H, D], d_weight [D]. d_x or d_z may be d_o.
// The same bits for any number of workers. Throws errc::shape, errc::missing, errc::value, errc::overlap.
template <storage T>
void rms_norm_gated_vjp(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 4>> z,
                        std::type_identity_t<view<const T, 1>> weight, std::type_identity_t<view<const accumulate_t<T>, 4>> d_o,
                        std::type_identity_t<view<accumulate_t<T>, 4>> d_x, std::type_identity_t<view<accumulate_t<T>, 4>> d_z,
                        std::type_identity_t<view<accumulate_t<T>, 1>> d_weight, const rms_norm_options& options = {}) {
  using R = accumulate_t<T>;
  const index dim = x.extent[3], size = options.group_size == 0 ? dim : options.group_size;
  detail::check_rms_norm_inputs<T>(x, z, weight, options);
  check::tensor("d_o", d_o, x.extent, false, true);
  check::result("d_x", d_x, x.extent, true, true);
  check::result("d_z", d_z, x.extent, true, true);
  check::result<R, 1>("d_weight", d_weight, {dim}, true, true);
  check::apart({{"d_x", d_x}, {"d_z", d_z}, {"d_weight", d_weight}}, {{"weight", weight}}, {{"x", x}, {"z", z}, {"d_o", d_o}});
  if (dim == 0) return;
  const auto row = [&](auto gate, index b, index t, index h, R* d_gain) {
    constexpr bool gated = gate() != activation::none;
    const bool gate_after = gated && options.norm_before_gate, gate_before = gated && !options.norm_before_gate;
    const simd<R> one(R(1)), offset(options.unit_offset ? R(1) : R(0));
    for (index first = 0; first < dim; first += size) {
      const T* const px = &x(b, t, h, first);
      const T* const pz = gated ? &z(b, t, h, first) : nullptr;
      const R* const pd = &d_o(b, t, h, first);
      const auto gate_of = [&](index c, auto lane) {
        if constexpr (gated) return activated<gate()>(get(pz + c, lane));
        else return one;
      };
      const auto gain = [&](index c, auto lane) { return weight.null() ? one : offset + get(weight.data + first + c, lane); };
      const auto before = [&](index c, auto lane) { return gate_before ? get(px + c, lane) * gate_of(c, lane) : get(px + c, lane); };
      const auto d_normal = [&](index c, auto lane) {
        const simd<R> d = get(pd + c, lane) * gain(c, lane);
        return gate_after ? d * gate_of(c, lane) : d;
      };
      simd<R> squares(R(0)), products(R(0));
      for_lanes<R>(size, [&](index c, auto lane) {
        const simd<R> u = before(c, lane);
        squares = fma(u, u, squares);
        products = fma(u, d_normal(c, lane), products);
      });
      const R r = detail::inverse_root(lane_sum(squares), static_cast<R>(size), static_cast<R>(options.eps));
      const simd<R> scale(r), mean(lane_sum(products) * r / static_cast<R>(size));
      for_lanes<R>(size, [&](index c, auto lane) {
        const simd<R> d = get(pd + c, lane), n = before(c, lane) * scale, d_u = scale * (d_normal(c, lane) - n * mean);
        if (d_gain) put(d_gain + first + c, get(d_gain + first + c, lane) + (gate_after ? d * n * gate_of(c, lane) : d * n), lane);
        const simd<R> to_x = gate_before ? d_u * gate_of(c, lane) : d_u;  // before z is written: d_z may be there
        if constexpr (gated)
          if (!d_z.null())
            put(&d_z(b, t, h, first + c), (gate_after ? d * gain(c, lane) * n : d_u * get(px + c, lane)) * activation_slope<gate()>(get(pz + c, lane)), lane);
        if (!d_x.null()) put(&d_x(b, t, h, first + c), to_x, lane);
      });
    }
  };
  with_activation(options.gate, [&](auto gate) {
    const std::array rows{x.extent[0], x.extent[1], x.extent[2]};
    if (d_weight.null()) for_rows(executor, rows, dim, [&](index b, index t, index h) { row(gate, b, t, h, nullptr); });
    else
      sum_over_rows<R>(executor, rows, dim, dim, [&](index b, index t, index h, R* sum) { row(gate, b, t, h, sum); },
                  [&](const R* sum) { add_to(d_weight.data, sum, dim); });
  });
}

// x, d_o and d_x [B, T, H, D], weight and d_weight [D] or null. d_x may be d_o. Throws as rms_norm_gated_vjp.
template <storage T>
void rms_norm_vjp(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 1>> weight,
                  std::type_identity_t<view<const accumulate_t<T>, 4>> d_o, std::type_identity_t<view<accumulate_t<T>, 4>> d_x,
                  std::type_identity_t<view<accumulate_t<T>, 1>> d_weight, double eps = 1e-5, bool unit_offset = false) {
  rms_norm_gated_vjp<T>(executor, x, {}, weight, d_o, d_x, {}, d_weight, {.eps = eps, .gate = activation::none, .unit_offset = unit_offset});
}

// x, d_o and d_x [B, T, H, D]. d_x may be d_o. Throws as rms_norm_gated_vjp.
template <storage T>
void l2_norm_vjp(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const accumulate_t<T>, 4>> d_o,
                 std::type_identity_t<view<accumulate_t<T>, 4>> d_x, double eps = 1e-6) {
  using R = accumulate_t<T>;
  const index dim = x.extent[3];
  detail::check_l2_norm_inputs<T>(x, eps);
  check::tensor("d_o", d_o, x.extent, false, true);
  check::result("d_x", d_x, x.extent, false, true);
  check::apart({{"d_x", d_x}}, {}, {{"x", x}, {"d_o", d_o}});
  for_rows(executor, {x.extent[0], x.extent[1], x.extent[2]}, dim, [&](index b, index t, index h) {
    const T* const px = &x(b, t, h, 0);
    const R* const pd = &d_o(b, t, h, 0);
    simd<R> squares(R(0)), products(R(0));
    for_lanes<R>(dim, [&](index c, auto lane) {
      const simd<R> u = get(px + c, lane);
      squares = fma(u, u, squares);
      products = fma(u, get(pd + c, lane), products);
    });
    const R r = detail::inverse_root(lane_sum(squares), R(1), static_cast<R>(eps));
    const simd<R> scale(r), sum(lane_sum(products) * r);
    for_lanes<R>(dim, [&](index c, auto lane) { put(&d_x(b, t, h, c), scale * (get(pd + c, lane) - get(px + c, lane) * scale * sum), lane); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
