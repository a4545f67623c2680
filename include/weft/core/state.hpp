// A state is a value made of named parts, each an array whose first dimension counts sequences. Copying, moving,
// comparing shapes, gathering rows, saving and restoring are written once, here and in io/, over those parts.
//
// A state type has `parts()`, a tuple of part{name, array&} (const and non-const).
#pragma once
#include <algorithm>
#include <span>
#include <tuple>
#include <utility>

#include "array.hpp"

namespace weft {
inline namespace v1 {

// What a state is made from; a mixer reads the members it needs.
struct shape {
  index batch = 0;      // sequences
  index heads = 0;      // value heads of a recurrence, key heads of a cache
  index key_dim = 0;
  index value_dim = 0;
  index capacity = 0;   // tokens a cache holds
};

template <class Array>
struct part {
  const char* name;
  Array& data;
};
template <class Array>
part(const char*, Array&) -> part<Array>;

template <class S>
concept state = requires(S& s, const S& c) {
  s.parts();
  c.parts();
};

template <class S, class F>
WEFT_INLINE void for_each_part(S& s, F&& f) {
  std::apply([&](auto&&... p) { (f(p), ...); }, s.parts());
}

// The parts of two states of one type, pairwise.
template <class S, class U, class F>
WEFT_INLINE void for_each_part(S& a, U& b, F&& f) {
  auto left = a.parts();
  auto right = b.parts();
  [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
    (f(std::get<I>(left), std::get<I>(right)), ...);
  }(std::make_index_sequence<std::tuple_size_v<decltype(left)>>{});
}

template <class S>
WEFT_INLINE std::size_t state_bytes(const S& s) {
  std::size_t n = 0;
  for_each_part(s, [&](const auto& p) { n += p.data.bytes(); });
  return n;
}

namespace detail {
template <class Array>
WEFT_INLINE void gather_part(const Array& from, std::span<const index> rows, Array& to) {
  if (from.null()) return;
  auto extent = from.extent();
  const index batch = extent[0], row = batch ? from.size() / batch : 0;
  for (const index r : rows)
    if (r < 0 || r >= batch)
      throw error(errc::value, "weft: gather: row " + std::to_string(r) + " of a state of batch " + std::to_string(batch));
  if constexpr (requires { from.gather_rows(rows); }) {
    to = from.gather_rows(rows);
  } else {
    extent[0] = static_cast<index>(rows.size());
    to = Array(extent);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(from.data() + rows[i] * row, row, to.data() + static_cast<index>(i) * row);
  }
}
}  // namespace detail

// The rows of a state in the given order, repeats allowed. Throws errc::value for a row that is not there.
template <class S>
WEFT_INLINE S gather(const S& s, std::span<const index> rows) {
  S out = s.like();
  for_each_part(s, out, [&](const auto& from, const auto& to) __attribute__((always_inline)) { detail::gather_part(from.data, rows, to.data); });
  return out;
}

}  // namespace v1
}  // namespace weft
