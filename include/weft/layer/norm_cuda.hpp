// Norms on a GPU; as those of norm.hpp.
#pragma once
#include "../backend/cuda/norm.hpp"
#include "norm_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T>
void rms_norm_gated(cuda& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 4>> z, std::type_identity_t<view<const T, 1>> weight,
                    const std::type_identity_t<output<T, 4>>& out, const rms_norm_options& options = {}) {
  using R = accumulate_t<T>;
  detail::check_rms_norm<T>(x, z, weight, out, options);
  const index size = options.group_size == 0 ? x.extent[3] : options.group_size;
  const device::norm_job<T> job{x, z, weight.data, size, static_cast<R>(size), static_cast<R>(options.eps), options.unit_offset ? R(1) : R(0), options.norm_before_gate};
  out.visit([&](const auto& o) { device::normalise(executor, job, o, options.gate); });
}

template <storage T>
void rms_norm(cuda& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const T, 1>> weight, const std::type_identity_t<output<T, 4>>& out,
              double eps = 1e-5, bool unit_offset = false) {
  rms_norm_gated<T>(executor, x, {}, weight, out, {.eps = eps, .gate = activation::none, .unit_offset = unit_offset});
}

template <storage T>
void l2_norm(cuda& executor, std::type_identity_t<view<const T, 4>> x, const std::type_identity_t<output<T, 4>>& out, double eps = 1e-6) {
  detail::check_l2_norm<T>(x, out, eps);
  const device::norm_job<T> job{.x = x, .size = x.extent[3], .eps = static_cast<accumulate_t<T>>(eps)};
  out.visit([&](const auto& o) { device::normalise(executor, job, o, activation::none); });
}

}  // namespace WEFT_ISA
}  // namespace weft
