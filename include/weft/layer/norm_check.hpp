// What norms and their gradients take, checked once for every executor.
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
void check_rms_norm_inputs(const view<const T, 4>& x, const view<const T, 4>& z, const view<const T, 1>& weight, const rms_norm_options& options) {
  const index dim = x.extent[3], size = options.group_size == 0 ? dim : options.group_size;
  check::tensor("x", x, x.extent, false, true);
  check::tensor("z", z, x.extent, options.gate == activation::none, true);
  check::tensor<const T, 1>("weight", weight, {dim}, true, true);
  check_eps(options.eps);
  require(size > 0 ? dim % size == 0 : dim == 0, errc::value, "group_size: expected a divisor of ", dim, " channels, got ", options.group_size);
}
template <storage T>
void check_l2_norm_inputs(const view<const T, 4>& x, double eps) {
  check::tensor("x", x, x.extent, false, true);
  check_eps(eps);
}

template <storage T>
void check_rms_norm(const view<const T, 4>& x, const view<const T, 4>& z, const view<const T, 1>& weight, const output<T, 4>& out, const rms_norm_options& options) {
  check_rms_norm_inputs<T>(x, z, weight, options);
  const check::operand o("o", out);
  check::result(o, x.extent, false, true);
  check::apart({o}, {{"weight", weight}}, {{"x", x}, {"z", z}});
}
template <storage T>
void check_l2_norm(const view<const T, 4>& x, const output<T, 4>& out, double eps) {
  check_l2_norm_inputs<T>(x, eps);
  const check::operand o("o", out);
  check::result(o, x.extent, false, true);
  check::apart({o}, {}, {{"x", x}});
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
