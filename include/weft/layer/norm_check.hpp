// What norms take, checked once for every executor.
#pragma once
#include <cmath>

#include "../core/check.hpp"
#include "../core/output.hpp"
#include "../math/activation.hpp"

namespace weft {
inline namespace v1 {

struct rms_norm_options {
  double eps = 1e-5;
  activation gate = activation::silu;  // of z; none: z is not read
  bool norm_before_gate = true;
  index group_size = 0;                // channels that share a mean square; 0: all of a row
  bool unit_offset = false;            // multiply by 1 + weight
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

inline void check_eps(double eps) { require(eps >= 0 && std::isfinite(eps), errc::value, "eps: expected 0 or a positive, finite number, got ", eps); }

template <storage T>
void check_rms_norm(const view<const T, 4>& x, const view<const T, 4>& z, const view<const T, 1>& weight, const output<T, 4>& out, const rms_norm_options& options) {
  const index dim = x.extent[3], size = options.group_size == 0 ? dim : options.group_size;
  check::tensor("x", x, x.extent, false, true);
  check::tensor("z", z, x.extent, options.gate == activation::none, true);
  check::tensor<const T, 1>("weight", weight, {dim}, true, true);
  check_eps(options.eps);
  require(size > 0 ? dim % size == 0 : dim == 0, errc::value, "group_size: expected a divisor of ", dim, " channels, got ", options.group_size);
  out.visit([&](const auto& o) {
    check::result("o", o, x.extent, false, true);
    if (!check::same_view(o, x)) check::no_overlap("o", o, "x", x);
    if (!check::same_view(o, z)) check::no_overlap("o", o, "z", z);
    check::no_overlap("o", o, "weight", weight);
  });
}

template <storage T>
void check_l2_norm(const view<const T, 4>& x, const output<T, 4>& out, double eps) {
  check::tensor("x", x, x.extent, false, true);
  check_eps(eps);
  out.visit([&](const auto& o) {
    check::result("o", o, x.extent, false, true);
    if (!check::same_view(o, x)) check::no_overlap("o", o, "x", x);
  });
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
