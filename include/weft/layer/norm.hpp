// Norms over the last dimension of [batch, time, heads, dim], sums in the accumulating type.
//
//   l2       o = x / sqrt(sum x^2 + eps)
//   rms      o = x / sqrt(mean x^2 + eps) w        or (1 + w)               Zhang and Sennrich 2019, arXiv 1910.07467
//   gated    o = rms(x) w act(z)     norm before gate (the delta nets)
//            o = rms(x act(z)) w     gate before norm (Mamba-2)
#pragma once
#include "activation.hpp"
#include "norm_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {
template <class R>
WEFT_INLINE R inverse_root(R sum, R count, R eps) { return R(1) / std::sqrt(sum / count + eps); }
}  // namespace detail

// x, z and o [B, T, H, D], weight [D]; z null without a gate, weight null for ones. o may be x or z.
// Throws errc::shape, errc::missing, errc::value (a group_size that does not divide D), errc::overlap.
template <storage T>
void rms_norm_gated(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 4>> z,
                    std::type_identity_t<view<const T, 1>> weight, const std::type_identity_t<output<T, 4>>& out,
                    const rms_norm_options& options = {}) {
  using R = accumulate_t<T>;
  const index dim = x.extent[3], size = options.group_size == 0 ? dim : options.group_size;
  detail::check_rms_norm<T>(x, z, weight, out, options);
  out.visit([&](const auto& o) {
    with_activation(options.gate, [&](auto gate) {
      constexpr bool gated = gate() != activation::none;
      for_rows(executor, {x.extent[0], x.extent[1], x.extent[2]}, dim, [&](index b, index t, index h) {
        for (index first = 0; first < dim; first += size) {
          const T* const px = &x(b, t, h, first);
          const T* const pz = gated ? &z(b, t, h, first) : nullptr;
          const auto gate_of = [&](index c, auto lane) { return activated<gate()>(get(pz + c, lane)); };
          const auto before = [&](index c, auto lane) {
            if constexpr (gated)
              if (!options.norm_before_gate) return get(px + c, lane) * gate_of(c, lane);
            return get(px + c, lane);
          };
          simd<R> sum(R(0));
          for_lanes<R>(size, [&](index c, auto lane) {
            const simd<R> y = before(c, lane);
            sum = fma(y, y, sum);
          });
          const simd<R> scale(detail::inverse_root(lane_sum(sum), static_cast<R>(size), static_cast<R>(options.eps)));
          const simd<R> offset(options.unit_offset ? R(1) : R(0));
          for_lanes<R>(size, [&](index c, auto lane) {
            simd<R> y = before(c, lane) * scale;
            if (!weight.null()) y *= offset + get(weight.data + first + c, lane);
            if constexpr (gated)
              if (options.norm_before_gate) y *= gate_of(c, lane);
            put(&o(b, t, h, first + c), y, lane);
          });
        }
      });
    });
  });
}

// x and o [B, T, H, D], weight [D] or null. o may be x.
template <storage T>
void rms_norm(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 1>> weight,
              const std::type_identity_t<output<T, 4>>& out, double eps = 1e-5, bool unit_offset = false) {
  rms_norm_gated<T>(executor, x, {}, weight, out, {.eps = eps, .gate = activation::none, .unit_offset = unit_offset});
}

// x and o [B, T, H, D]. o may be x.
template <storage T>
void l2_norm(cpu& executor, std::type_identity_t<view<const T, 4>> x, const std::type_identity_t<output<T, 4>>& out, double eps = 1e-6) {
  using R = accumulate_t<T>;
  const index dim = x.extent[3];
  detail::check_l2_norm<T>(x, out, eps);
  out.visit([&](const auto& o) {
    for_rows(executor, {x.extent[0], x.extent[1], x.extent[2]}, dim, [&](index b, index t, index h) {
      const T* const px = &x(b, t, h, 0);
      simd<R> sum(R(0));
      for_lanes<R>(dim, [&](index c, auto lane) {
        const simd<R> y = get(px + c, lane);
        sum = fma(y, y, sum);
      });
      const simd<R> scale(detail::inverse_root(lane_sum(sum), R(1), static_cast<R>(eps)));
      for_lanes<R>(dim, [&](index c, auto lane) { put(&o(b, t, h, c), get(px + c, lane) * scale, lane); });
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
