// Gradients of projections: d_x = d_y W, d_W = d_y^T x, d_bias = sum d_y, by blocks that the extents alone decide.
#pragma once
#include "projection.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Gradients of a projection's parameters, null where they are not wanted.
template <storage T>
void check_parameters(const projection<T>& p, const projection<accumulate_t<T>>& d) {
  check::tensor("d_weight", d.weight.view(), p.weight.extent(), true, true);
  check::tensor("d_bias", d.bias.view(), {p.outputs()}, true, true);
}

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

// As check_project; a gradient without `d_first` or `d_last` is not wanted, nor is any that is null there.
template <storage T, storage X, class R = accumulate_t<T>>
void check_project_vjp(const projection<T>& first, const projection<T>& last, const view<const X, 3>& x, const view<const R, 3>& d_y, const view<R, 3>& d_x,
                       std::type_identity_t<const projection<R>*> d_first, std::type_identity_t<const projection<R>*> d_last) {
  const projection<R> none, &a = d_first ? *d_first : none, &b = d_last ? *d_last : none;
  check::tensor("x", x, {x.extent[0], x.extent[1], first.inputs()}, false, true);
  check::tensor("d_y", d_y, {x.extent[0], x.extent[1], last.outputs()}, false, true);
  check::result("d_x", d_x, x.extent, true, true);
  check_parameters(first, a);
  check_parameters(last, b);
  check::apart({{"d_x", d_x}, {"d_weight", a.weight.view()}, {"d_bias", a.bias.view()}, {"d_weight", b.weight.view()}, {"d_bias", b.bias.view()}},
               {{"d_y", d_y}, {"x", x}, {"weight", first.weight.view()}, {"bias", first.bias.view()}, {"weight", last.weight.view()}, {"bias", last.bias.view()}});
}

}  // namespace detail

// x [B, T, in] of the storage or the accumulating type, as project had it; d_y [B, T, out]; d_x [B, T, in] or null: not wanted,
// and no product made. Gradients of the parameters are added to `d`, whose arrays may each be null; d_x is overwritten, or
// added to where `add` says so. The same bits for any number of workers. O(B T in out) each. Throws errc::shape, errc::missing,
// errc::overlap.
template <storage T, storage X>
  requires(std::is_same_v<X, T> || std::is_same_v<X, accumulate_t<T>>)
void project_vjp(cpu& executor, const projection<T>& p, view<const X, 3> x, std::type_identity_t<view<const accumulate_t<T>, 3>> d_y,
                 std::type_identity_t<view<accumulate_t<T>, 3>> d_x, projection<accumulate_t<T>>* d = nullptr, bool add = false) {
  detail::check_project_vjp<T>(p, p, x, d_y, d_x, d, nullptr);
  if (!d_x.null()) detail::project_back(executor, p, d_y, d_x, add);
  if (d && !(d->weight.null() && d->bias.null())) detail::project_parameters<T>(executor, x, d_y, *d);
}

// What lies between the two is computed again. Throws as that of one.
template <storage T>
void project_vjp(cpu& executor, const low_rank_projection<T>& p, std::type_identity_t<view<const T, 3>> x,
                 std::type_identity_t<view<const accumulate_t<T>, 3>> d_y, std::type_identity_t<view<accumulate_t<T>, 3>> d_x,
                 low_rank_projection<accumulate_t<T>>* d = nullptr, bool add = false) {
  using R = accumulate_t<T>;
  if (p.down.weight.null()) return project_vjp(executor, p.up, x, d_y, d_x, d ? &d->up : nullptr, add);
  detail::check_ranks(p);
  detail::check_project_vjp<T>(p.down, p.up, x, d_y, d_x, d ? &d->down : nullptr, d ? &d->up : nullptr);
  temporaries::scope memory(executor.temporaries());
  const auto middle = memory.take<R>(x.extent[0], x.extent[1], p.down.outputs()), d_middle = memory.take<R>(x.extent[0], x.extent[1], p.down.outputs());
  project<T>(executor, p.down, x, middle);
  project_vjp(executor, p.up, view<const R, 3>(middle), d_y, d_middle, d ? &d->up : nullptr);
  project_vjp(executor, p.down, x, d_middle, d_x, d ? &d->down : nullptr, add);
}

}  // namespace WEFT_ISA
}  // namespace weft
