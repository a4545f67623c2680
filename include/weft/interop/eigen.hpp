// Eigen matrices as views and views as Eigen maps, without copies. Eigen's matrices must be row-major.
#pragma once
#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <type_traits>

#include "../core/array.hpp"
#include "../core/check.hpp"

namespace weft {
inline namespace WEFT_ISA {

// A row-major Eigen map with any distance between rows; const elements give a map that only reads.
template <class T>
using eigen_map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                       Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

// The last two dimensions of a view, at the given place in the ones before: [.., rows, cols] at (i...).
// Throws errc::shape for a last stride other than 1.
template <class T, int R, std::convertible_to<index>... I>
  requires(R >= 2 && sizeof...(I) == R - 2)
eigen_map<T> as_eigen(const view<T, R>& v, I... at) {
  const auto rows = static_cast<std::size_t>(R - 2), cols = static_cast<std::size_t>(R - 1);
  require(v.extent[cols] <= 1 || v.stride[cols] == 1, errc::shape, "as_eigen: expected a last stride of 1, got ", v.stride[cols]);
  T* data = v.data;
  if constexpr (R > 2) {
    const index where[] = {static_cast<index>(at)...};
    if (data)
      for (std::size_t d = 0; d < rows; ++d) data += where[d] * v.stride[d];
  }
  return {data, v.extent[rows], v.extent[cols], Eigen::OuterStride<>(v.stride[rows])};
}

// All dimensions but the last as rows: [B, T, D] as [B * T, D]. Throws errc::shape where their strides do not run on.
template <class T, int R>
  requires(R >= 2)
eigen_map<T> as_eigen_rows(const view<T, R>& v) {
  view<T, 2> flat(v.data, {1, v.extent[R - 1]}, {v.extent[R - 1], v.stride[R - 1]});
  for (std::size_t d = R - 1; d-- > 0;) {
    if (v.extent[d] == 1) continue;
    if (flat.extent[0] == 1) flat.stride[0] = v.stride[d];
    require(v.size() == 0 || v.stride[d] == flat.extent[0] * flat.stride[0], errc::shape,
            "as_eigen_rows: expected strides that run on through the rows, got ", check::list(v.stride), " for ", check::list(v.extent));
    flat.extent[0] *= v.extent[d];
  }
  return as_eigen(flat);
}

template <class T, int R, std::convertible_to<index>... I>
auto as_eigen(array<T, R>& a, I... at) { return as_eigen(a.view(), at...); }
template <class T, int R, std::convertible_to<index>... I>
auto as_eigen(const array<T, R>& a, I... at) { return as_eigen(a.view(), at...); }
template <class T, int R>
auto as_eigen_rows(array<T, R>& a) { return as_eigen_rows(a.view()); }
template <class T, int R>
auto as_eigen_rows(const array<T, R>& a) { return as_eigen_rows(a.view()); }

// An Eigen matrix, map or block as a view [rows, cols]; a vector as a view [size]. The view does not own: a matrix that is about
// to go away does not compile. Throws errc::shape for elements that are not next to each other.
template <class M>
auto as_view(M&& m) {
  using D = std::remove_cvref_t<M>;
  static_assert(std::is_base_of_v<Eigen::DenseBase<D>, D> && (Eigen::internal::traits<D>::Flags & Eigen::DirectAccessBit) != 0,
                "weft: as_view: expected an Eigen matrix, map or block with memory of its own or somebody's, not an expression");
  static_assert(D::IsVectorAtCompileTime || D::IsRowMajor, "weft: as_view: expected a row-major matrix");
  static_assert(std::is_lvalue_reference_v<M> || !std::is_base_of_v<Eigen::PlainObjectBase<D>, D>,
                "weft: as_view: expected a matrix that outlives the view");
  using T = std::remove_pointer_t<decltype(m.data())>;
  require(m.innerStride() == 1 || m.size() <= 1, errc::shape, "as_view: expected an inner stride of 1, got ", m.innerStride());
  if constexpr (D::IsVectorAtCompileTime) return view<T, 1>(m.data(), {m.size()});
  else return view<T, 2>(m.data(), {m.rows(), m.cols()}, {m.outerStride(), 1});
}

}  // namespace WEFT_ISA
}  // namespace weft
