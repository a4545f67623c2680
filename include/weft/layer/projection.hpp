// Linear layers: y = x W^T + b, weights [out, in] as checkpoints keep them. 16-bit weights stay 16 bits in memory and are
// widened block by block; products and sums are in the accumulating type.
#pragma once
#include <Eigen/Core>

#include <algorithm>
#include <initializer_list>
#include <span>
#include <tuple>

#include "../backend/cpu/elementwise.hpp"
#include "../core/array.hpp"
#include "../core/state.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct projection {
  array<T, 2> weight{};  // [out, in]
  array<T, 1> bias{};    // [out], optional

  auto parts() { return std::tuple{part{"weight", weight}, part{"bias", bias}}; }
  auto parts() const { return std::tuple{part{"weight", weight}, part{"bias", bias}}; }
  index inputs() const { return weight.extent(1); }
  index outputs() const { return weight.extent(0); }
};

// up(down(x)); without `down` a plain projection.
template <storage T>
struct low_rank_projection {
  projection<T> down{};  // optional
  projection<T> up{};

  auto parts() { return std::tuple{part{"down", down}, part{"up", up}}; }
  auto parts() const { return std::tuple{part{"down", down}, part{"up", up}}; }
  index outputs() const { return up.outputs(); }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
using row_map = Eigen::Map<Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class R>
using const_row_map = Eigen::Map<const Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, Eigen::Unaligned, Eigen::OuterStride<>>;

// [B, T, D] as [1, B T, D] where the strides allow it.
template <class V>
bool rows_run_on(const V& v) { return v.extent[0] <= 1 || v.extent[1] == 1 || v.stride[0] == v.extent[1] * v.stride[1]; }
template <class V>
V as_one_row_block(V v) {
  if (v.extent[1] == 1) v.stride[1] = v.stride[0];
  v.extent[1] *= v.extent[0];
  v.extent[0] = 1;
  return v;
}

// Rows [rows, columns] of any storage type as numbers of the accumulating type: themselves, or a copy in `room`.
template <class T>
const_row_map<accumulate_t<T>> widened(const T* p, index rows, index columns, index stride, accumulate_t<T>* room) {
  using R = accumulate_t<T>;
  if constexpr (std::is_same_v<T, R>) {
    return {p, rows, columns, Eigen::OuterStride<>(stride)};
  } else {
    for (index r = 0; r < rows; ++r)
      for_lanes<R>(columns, [&](index c, auto lane) { put(room + r * columns + c, get(p + r * stride + c, lane), lane); });
    return {room, rows, columns, Eigen::OuterStride<>(columns)};
  }
}

// The blocks of a product never depend on the number of workers, so neither do its bits.
inline constexpr index product_rows = 192;
inline constexpr index product_columns(index rows) { return rows <= 8 ? 64 : 256; }
// Eigen packs both sides of a product on the stack where they are at most 128 KiB, and allocates where they are more.
template <class R>
inline constexpr index product_depth = (index{128} << 10) / sizeof(R) / std::max(product_rows, product_columns(product_rows));

// x [B, T, the inputs of `first`], y [B, T, the outputs of `last`]; `last` is `first`, or takes its result.
template <storage T, storage X>
void check_project(const projection<T>& first, const projection<T>& last, const view<const X, 3>& x, const output<T, 3>& out) {
  check::tensor("x", x, {x.extent[0], x.extent[1], first.inputs()}, false, true);
  check::tensor("bias", first.bias.view(), {first.outputs()}, true, true);
  check::tensor("bias", last.bias.view(), {last.outputs()}, true, true);
  const check::operand y("y", out);
  check::result(y, std::array{x.extent[0], x.extent[1], last.outputs()}, false, true);
  check::apart({y}, {{"x", x}, {"weight", first.weight.view()}, {"bias", first.bias.view()}, {"weight", last.weight.view()}, {"bias", last.bias.view()}});
}
template <storage T>
void check_ranks(const low_rank_projection<T>& p) { check::tensor("up.weight", p.up.weight.view(), {p.up.outputs(), p.down.outputs()}, false, true); }

template <storage T, storage X>
void project_rows(cpu& executor, const projection<T>& p, view<const X, 3> x, const output<T, 3>& out) {
  using R = accumulate_t<T>;
  const index in = p.inputs(), columns = p.outputs();
  check_project(p, p, x, out);
  out.visit([&](auto y) {
    using Out = typename decltype(y)::element;
    if (rows_run_on(x) && rows_run_on(y)) {
      x = as_one_row_block(x);
      y = as_one_row_block(y);
    }
    const index rows = x.extent[1], block_rows = std::min(rows, product_rows), block_columns = std::min(columns, product_columns(rows));
    if (rows == 0 || columns == 0 || x.extent[0] == 0) return;
    const index down = (rows + block_rows - 1) / block_rows, across = (columns + block_columns - 1) / block_columns;
    const auto room = [&](arena memory) {
      R* const wide_x = memory.take<R>(std::is_same_v<X, R> ? 0 : block_rows * in);
      R* const wide_w = memory.take<R>(std::is_same_v<T, R> ? 0 : block_columns * in);
      R* const wide_y = memory.take<R>(std::is_same_v<Out, R> ? 0 : block_rows * block_columns);
      return std::tuple{wide_x, wide_w, wide_y, memory.used()};
    };
    executor.reserve(std::get<3>(room(arena())));
    executor.parallel_for(x.extent[0] * down * across, [&](index task, int worker) {
      const index b = task / (down * across), r = task / across % down * block_rows, c = task % across * block_columns;
      const index m = std::min(block_rows, rows - r), n = std::min(block_columns, columns - c);
      R *wide_x, *wide_w, *wide_y;
      std::tie(wide_x, wide_w, wide_y, std::ignore) = room(arena(executor.scratch(worker)));
      const auto left = widened(&x(b, r, 0), m, in, x.stride[1], wide_x);
      const auto right = widened(&p.weight(c, 0), n, in, in, wide_w);
      const auto product = [&](R* to, index stride) {
        row_map<R> result(to, m, n, Eigen::OuterStride<>(stride));
        result.setZero();
        const index depth = m == 1 || n == 1 ? in : product_depth<R>;  // a vector is not packed
        for (index i = 0; i < in; i += depth) {
          const index d = std::min(depth, in - i);
          result.noalias() += left.middleCols(i, d) * right.middleCols(i, d).transpose();
        }
        if (!p.bias.null())
          for (index i = 0; i < m; ++i)
            for_lanes<R>(n, [&](index j, auto lane) { put(to + i * stride + j, get(to + i * stride + j, lane) + get(&p.bias(c) + j, lane), lane); });
      };
      if constexpr (std::is_same_v<Out, R>) {
        product(&y(b, r, c), y.stride[1]);
      } else {
        product(wide_y, n);
        for (index i = 0; i < m; ++i)
          for_lanes<R>(n, [&](index j, auto lane) { put(&y(b, r + i, c) + j, get(wide_y + i * n + j, lane), lane); });
      }
    });
  });
}

}  // namespace detail

// x [B, T, in], y [B, T, out], each of the storage or the accumulating type, with any strides between rows. O(B T in out).
// Throws errc::shape, errc::missing, errc::overlap.
template <storage T>
void project(cpu& executor, const projection<T>& p, std::type_identity_t<view<const T, 3>> x, const std::type_identity_t<output<T, 3>>& y) {
  detail::project_rows<T, T>(executor, p, x, y);
}
template <storage T>
  requires(!std::is_same_v<T, accumulate_t<T>>)
void project(cpu& executor, const projection<T>& p, std::type_identity_t<view<const accumulate_t<T>, 3>> x, const std::type_identity_t<output<T, 3>>& y) {
  detail::project_rows<T, accumulate_t<T>>(executor, p, x, y);
}

// Throws as a projection, before anything is written.
template <storage T>
void project(cpu& executor, const low_rank_projection<T>& p, std::type_identity_t<view<const T, 3>> x, const std::type_identity_t<output<T, 3>>& y) {
  if (p.down.weight.null()) return project(executor, p.up, x, y);
  detail::check_ranks(p);
  detail::check_project(p.down, p.up, x, y);
  temporaries::scope memory(executor.temporaries());
  const auto middle = memory.take<accumulate_t<T>>(x.extent[0], x.extent[1], p.down.outputs());
  project<T>(executor, p.down, x, middle);
  project<T>(executor, p.up, middle, y);
}

// The given output rows of a projection, in the given order.
template <storage T>
projection<T> pick_rows(const projection<T>& p, std::span<const index> rows) {
  const auto count = static_cast<index>(rows.size());
  projection<T> out{array<T, 2>({count, p.inputs()}), p.bias.null() ? array<T, 1>() : array<T, 1>({count})};
  for (index i = 0; i < count; ++i) {
    const index from = rows[static_cast<std::size_t>(i)];
    std::copy_n(p.weight.data() + from * p.inputs(), p.inputs(), out.weight.data() + i * p.inputs());
    if (!p.bias.null()) out.bias(i) = p.bias(from);
  }
  return out;
}

// Several projections of one input as one; either all or none have a bias.
template <storage T>
projection<T> stack_rows(std::span<const projection<T>> parts) {
  index rows = 0;
  for (const auto& p : parts) {
    require(p.inputs() == parts.front().inputs() && p.bias.null() == parts.front().bias.null(), errc::shape,
            "stack_rows: expected projections of one input width, all or none with a bias");
    rows += p.outputs();
  }
  projection<T> out{array<T, 2>({rows, parts.front().inputs()}), parts.front().bias.null() ? array<T, 1>() : array<T, 1>({rows})};
  rows = 0;
  for (const auto& p : parts) {
    std::copy_n(p.weight.data(), p.weight.size(), out.weight.data() + rows * p.inputs());
    if (!p.bias.null()) std::copy_n(p.bias.data(), p.bias.size(), out.bias.data() + rows);
    rows += p.outputs();
  }
  return out;
}

}  // namespace WEFT_ISA
}  // namespace weft
