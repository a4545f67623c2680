// Views of Eigen's memory and Eigen maps of views: the same elements at the same addresses.
#include "weft/interop/eigen.hpp"

#include "catch.hpp"

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {

template <class V, class M>
void same_elements(const V& v, const M& m) {
  REQUIRE(v.extent[0] == m.rows());
  REQUIRE(v.extent[1] == m.cols());
  for (weft::index i = 0; i < m.rows(); ++i)
    for (weft::index j = 0; j < m.cols(); ++j) CHECK(&v(i, j) == &m.coeffRef(i, j));
}

row_major counted(weft::index rows, weft::index cols) {
  row_major m(rows, cols);
  for (weft::index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(i);
  return m;
}

template <class F>
weft::errc code_of(F&& f) {
  try {
    f();
  } catch (const weft::error& e) {
    return e.code();
  }
  return weft::errc::unsupported;
}

}  // namespace

TEST_CASE("Matrices, blocks, maps and vectors are views") {
  row_major m = counted(4, 6);
  same_elements(weft::as_view(m), m);
  auto middle = m.middleCols(2, 3);
  same_elements(weft::as_view(middle), middle);
  CHECK(weft::as_view(m.middleCols(2, 3)).stride[0] == 6);
  Eigen::Map<row_major, 0, Eigen::OuterStride<>> map(m.data() + 1, 3, 2, Eigen::OuterStride<>(6));
  same_elements(weft::as_view(map), map);
  const row_major& constant = m;
  static_assert(std::is_same_v<decltype(weft::as_view(constant)), weft::view<const float, 2>>);
  CHECK(weft::as_view(constant)(3, 5) == 23);
  static_assert(std::is_same_v<decltype(weft::as_view(m.row(1))), weft::view<float, 1>>);
  CHECK(weft::as_view(m.row(1))(2) == 8);
  Eigen::VectorXd column = Eigen::VectorXd::LinSpaced(5, 0, 4);
  CHECK(weft::as_view(column)(4) == 4);
  CHECK(weft::as_view(column).extent[0] == 5);
  CHECK(code_of([&] { weft::as_view(m.col(1)); }) == weft::errc::shape);
}

TEST_CASE("Views are maps: of rank 2, and of the last two dimensions of more") {
  weft::array<float, 4> a({2, 3, 4, 5});
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(i);
  auto map = weft::as_eigen(a, 1, 2);
  for (weft::index i = 0; i < 4; ++i)
    for (weft::index j = 0; j < 5; ++j) CHECK(&map.coeffRef(i, j) == &a(1, 2, i, j));
  map.setZero();
  CHECK(a(1, 2, 3, 4) == 0);
  CHECK(a(1, 1, 3, 4) == 99);

  // One head of [B, T, H, K] over time: rows far apart.
  const weft::view<float, 3> head(&a(0, 0, 1, 0), {2, 3, 5}, {60, 20, 1});
  const auto over_time = weft::as_eigen(head, 1);
  CHECK(over_time.rows() == 3);
  CHECK(&over_time.coeffRef(1, 2) == &a(1, 1, 1, 2));

  const auto& constant = a;
  static_assert(std::is_const_v<std::remove_reference_t<decltype(*weft::as_eigen(constant, 0, 0).data())>>);
  CHECK(weft::as_eigen(constant, 0, 0).sum() == 190);

  row_major m = counted(4, 6);
  same_elements(weft::as_view(m.middleCols(1, 2)), weft::as_eigen(weft::as_view(m.middleCols(1, 2))));
  CHECK(code_of([&] { weft::as_eigen(weft::view<float, 2>(m.data(), {6, 4}, {1, 6})); }) == weft::errc::shape);
}

TEST_CASE("Leading dimensions fold into rows where their strides run on") {
  weft::array<float, 3> a({2, 3, 4});
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(i);
  auto rows = weft::as_eigen_rows(a);
  CHECK(rows.rows() == 6);
  CHECK(rows.cols() == 4);
  CHECK(&rows.coeffRef(4, 3) == &a(1, 1, 3));

  // Part of every row of a fused buffer: the rows are apart, yet run on.
  const auto part = weft::as_eigen_rows(a.view().slice(2, 1, 2));
  CHECK(part.rows() == 6);
  CHECK(part.outerStride() == 4);
  CHECK(&part.coeffRef(5, 1) == &a(1, 2, 2));

  CHECK(weft::as_eigen_rows(a.view().slice(1, 2, 1)).outerStride() == 12);
  CHECK(weft::as_eigen_rows(a.view().slice(1, 0, 0)).rows() == 0);
  CHECK(code_of([&] { weft::as_eigen_rows(a.view().slice(1, 0, 2)); }) == weft::errc::shape);
}
