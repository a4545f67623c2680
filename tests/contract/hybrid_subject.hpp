// RAT, Aaren and combined mixers as subjects.
#pragma once
#include "mixer_subject.hpp"

namespace contract {

// Numbers that a family of mixers with roles and a list of names has in common.
template <class M>
input_info named_info(std::size_t wanted) {
  input_info found;
  typename M::inputs in;
  weft::for_each_member(in, [&](const auto& v, auto i) {
    using view = std::remove_cvref_t<decltype(v)>;
    const auto [name, optional] = split_mark(M::names[i]);
    if (i == wanted) found = info_of(view::role, name, optional, element_of<std::remove_const_t<typename view::element>>());
  });
  return found;
}

template <class T>
struct family<weft::rat<T>> {
  using M = weft::rat<T>;
  static constexpr std::size_t inputs = 4;
  static constexpr bool free_state = false, erases = false;
  static std::vector<axis> output_axes() { return {axis::batch, axis::time, axis::value_head, axis::value_dim}; }
  static input_info info(std::size_t i) { return named_info<M>(i); }
  static bool may_alias(std::size_t i) { return i == 0 || i == 2; }
  static index grid(const M&, const sizes&) { return 0; }
  // One width; and head counts for which h mod R, RAT's own order, is h / (H / R).
  static void size(const M& m, sizes& s, dice& d) {
    if (m.rope_base > 0) s.key_dim += s.key_dim % 2;
    s.value_dim = s.key_dim;
    if (s.heads > 1 && s.group > 1) (s.heads % 2 ? s.heads : s.group) = 1;
    s.capacity = 2 * s.time + 40 + d.below(20);
  }
  static weft::shape shape(const sizes& s) {
    return {.batch = s.sequences(), .heads = s.heads * s.group, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.capacity};
  }
  static auto wide(const M& m) { return weft::rat<double>{m.chunk_size, m.scale, m.rope_base}; }
  static M integral(M m) { return m; }
};

template <class T>
struct family<weft::aaren<T>> {
  using M = weft::aaren<T>;
  static constexpr std::size_t inputs = 3;
  static constexpr bool free_state = true, erases = false;
  static std::vector<axis> output_axes() { return {axis::batch, axis::time, axis::value_head, axis::value_dim}; }
  static input_info info(std::size_t i) { return named_info<M>(i); }
  static bool may_alias(std::size_t i) { return i == 2; }
  static index grid(const M&, const sizes&) { return 1; }
  static void size(const M&, sizes& s, dice&) { s.group = 1; }
  static weft::shape shape(const sizes& s) { return {.batch = s.sequences(), .heads = s.heads, .value_dim = s.value_dim}; }
  static auto wide(const M& m) { return weft::aaren<double>{m.scale}; }
  static M integral(M m) { return m; }
};

}  // namespace contract
