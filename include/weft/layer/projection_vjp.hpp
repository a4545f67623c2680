// Gradients of projections: d_x = d_y W, d_W = d_y^T x, d_bias = sum d_y, by blocks that the extents alone decide.
#pragma once
#include "projection.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

inline constexpr index gradient_outputs = 64, gradient_inputs = 256, gradient_rows = 128;  // of a block of d_W
inline constexpr index gradient_depth = 128;                                                  // outputs that a block of d_x sums at a time

// d_x (+)= d_y W
template <storage T>
void project_back(cpu& executor, const projection<T>& p, view<const accumulate_t<T>, 3> d_y, view<accumulate_t<T>, 3> d_x, bool add) {
  using R = accumulate_t<T>;
  if (rows_run_on(d_y) && rows_run_on(d_x)) {
    d_y = as_one_row_block(d_y);
    d_x = as_one_row_block(d_x);
  }
  const index rows = d_x.extent[1], in = p.inputs(), out = p.outputs();
  if (rows == 0 || in == 0 || d_x.extent[0] == 0) return;
  const index block_rows = std::min(rows, product_rows), block_columns = std::min(in, product_columns(rows));
  const index down = (rows + block_rows - 1) / block_rows, across = (in + block_columns - 1) / block_columns;
  executor.reserve(std::is_same_v<T, R> ? 0 : static_cast<std::size_t>(gradient_depth * block_columns) * sizeof(R));
  executor.parallel_for(d_x.extent[0] * down * across, [&](index task, int worker) {
    const index b = task / (down * across), r = task / across % down * block_rows, c = task % across * block_columns;
    const index m = std::min(block_rows, rows - r), n = std::min(block_columns, in - c);
    row_map<R> result(&d_x(b, r, c), m, n, Eigen::OuterStride<>(d_x.stride[1]));
    if (!add) result.setZero();
    for (index i = 0; i < out; i += gradient_depth) {
      const index d = std::min(gradient_depth, out - i);
      const const_row_map<R> left(&d_y(b, r, i), m, d, Eigen::OuterStride<>(d_y.stride[1]));
      result.noalias() += left * widened(&p.weight(i, c), d, n, in, reinterpret_cast<R*>(executor.scratch(worker)));
    }
  });
}

// d.weight += d_y^T x, d.bias += sum d_y
template <storage T, storage X>
void project_parameters(cpu& executor, view<const X, 3> x, view<const accumulate_t<T>, 3> d_y, projection<accumulate_t<T>>& d) {
  using R = accumulate_t<T>;
  if (rows_run_on(x) && rows_run_on(d_y)) {
    x = as_one_row_block(x);
    d_y = as_one_row_block(d_y);
  }
  const bool weights = !d.weight.null(), biases = !d.bias.null();
  const index in = weights ? x.extent[2] : 0, out = d_y.extent[2], rows = x.extent[1];
  const index down = (out + gradient_outputs - 1) / gradient_outputs, across = std::max<index>(1, (in + gradient_inputs - 1) / gradient_inputs);
  executor.reserve(std::is_same_v<X, R> ? 0 : static_cast<std::size_t>(gradient_rows * gradient_inputs) * sizeof(R));
  executor.parallel_for(down * across, [&](index task, int worker) {
    const index o = task / across * gradient_outputs, c = task % across * gradient_inputs;
    const index m = std::min(gradient_outputs, out - o), n = std::min(gradient_inputs, in - c);
    for (index b = 0; b < x.extent[0]; ++b)
      for (index r = 0; r < rows; r += gradient_rows) {
        const index count = std::min(gradient_rows, rows - r);
        if (n > 0) {
          const const_row_map<R> left(&d_y(b, r, o), count, m, Eigen::OuterStride<>(d_y.stride[1]));
          row_map<R> block(&d.weight(o, c), m, n, Eigen::OuterStride<>(in));
          block.noalias() += left.transpose() * widened(&x(b, r, c), count, n, x.stride[1], reinterpret_cast<R*>(executor.scratch(worker)));
        }
        for (index i = r; biases && c == 0 && i < r + count; ++i)
          for_lanes<R>(m, [&](index j, auto lane) { put(&d.bias(o) + j, get(&d.bias(o) + j, lane) + get(&d_y(b, i, o) + j, lane), lane); });
      }
  });
}

}  // namespace detail

// x [B, T, in] of the storage or the accumulating type, as project had it; d_y [B, T, out]; d_x [B, T, in] or null: not wanted,
// and no product made. Gradients of the parameters are added to `d`, whose arrays may each be null; d_x is overwritten, or
// added to where `add` says so. The same bits for any number of workers. O(B T in out) each. Throws errc::shape, errc::missing.
template <storage T, storage X>
  requires(std::is_same_v<X, T> || std::is_same_v<X, accumulate_t<T>>)
void project_vjp(cpu& executor, const projection<T>& p, view<const X, 3> x, std::type_identity_t<view<const accumulate_t<T>, 3>> d_y,
                 std::type_identity_t<view<accumulate_t<T>, 3>> d_x, projection<accumulate_t<T>>* d = nullptr, bool add = false) {
  using R = accumulate_t<T>;
  check::tensor("x", x, {x.extent[0], x.extent[1], p.inputs()}, false, true);
  check::tensor("d_y", d_y, {x.extent[0], x.extent[1], p.outputs()}, false, true);
  check::result("d_x", d_x, x.extent, true, true);
  if (d && !d->weight.null()) check::tensor<R, 2>("d_weight", d->weight, p.weight.extent(), false, true);
  if (d && !d->bias.null()) check::tensor<R, 1>("d_bias", d->bias, {p.outputs()}, false, true);
  check::no_overlap("d_x", d_x, "d_y", d_y);
  check::no_overlap("d_x", d_x, "x", x);
  if (!d_x.null()) detail::project_back(executor, p, d_y, d_x, add);
  if (d && !(d->weight.null() && d->bias.null())) detail::project_parameters<T>(executor, x, d_y, *d);
}

// What lies between the two is computed again.
template <storage T>
void project_vjp(cpu& executor, const low_rank_projection<T>& p, std::type_identity_t<view<const T, 3>> x,
                 std::type_identity_t<view<const accumulate_t<T>, 3>> d_y, std::type_identity_t<view<accumulate_t<T>, 3>> d_x,
                 low_rank_projection<accumulate_t<T>>* d = nullptr, bool add = false) {
  using R = accumulate_t<T>;
  if (p.down.weight.null()) return project_vjp(executor, p.up, x, d_y, d_x, d ? &d->up : nullptr, add);
  temporaries::scope memory(executor.temporaries());
  const auto middle = memory.take<R>(x.extent[0], x.extent[1], p.down.outputs()), d_middle = memory.take<R>(x.extent[0], x.extent[1], p.down.outputs());
  project<T>(executor, p.down, x, middle);
  project_vjp(executor, p.up, view<const R, 3>(middle), d_y, d_middle, d ? &d->up : nullptr);
  project_vjp(executor, p.down, x, d_middle, d_x, d ? &d->down : nullptr, add);
}

}  // namespace WEFT_ISA
}  // namespace weft
