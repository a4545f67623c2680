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

// Two mixers side by side: the inputs of the first, then those of the second, with the part's number before their names.
template <class S, class A, class B>
struct pair_family {
  using M = S;
  using FA = family<A>;
  using FB = family<B>;
  static constexpr std::size_t own = S::gated ? 1 : 0, inputs = FA::inputs + FB::inputs + own;
  static constexpr bool free_state = FA::free_state && FB::free_state, erases = FA::erases || FB::erases;
  static std::vector<axis> output_axes() { return FA::output_axes(); }
  static input_info info(std::size_t i) {
    if (i == FA::inputs + FB::inputs)
      return {"weights", false, false, element_of<weft::accumulate_t<typename S::storage_type>>(), {axis::batch, axis::time, axis::value_head, axis::taps}};
    const bool first = i < FA::inputs;
    input_info x = first ? FA::info(i) : FB::info(i - FA::inputs);
    static std::vector<std::string> names = [] {
      std::vector<std::string> all;
      for (std::size_t j = 0; j < FA::inputs; ++j) all.push_back("0." + std::string(FA::info(j).name));
      for (std::size_t j = 0; j < FB::inputs; ++j) all.push_back("1." + std::string(FB::info(j).name));
      return all;
    }();
    x.name = names[i];
    return x;
  }
  static bool may_alias(std::size_t i) {
    if (i >= FA::inputs + FB::inputs) return false;
    return i < FA::inputs ? FA::may_alias(i) : FB::may_alias(i - FA::inputs);
  }
  static index grid(const S&, const sizes&) { return 0; }
  static void size(const S& m, sizes& s, dice& d) {
    FA::size(std::get<0>(m.mixers), s, d);
    FB::size(std::get<1>(m.mixers), s, d);
    s.taps = 2;
    s.group = 1;  // both parts are of one shape
  }
  static weft::shape shape(const sizes& s) {
    return {.batch = s.sequences(), .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.capacity};
  }
  // Of inputs or gradients.
  template <class Both>
  static void aim(Both& all, const std::vector<tensor>& at) {
    if constexpr (S::gated) {
      aim_parts(all.parts, at);
      contract::aim(all.weights, at.back());
    } else {
      aim_parts(all, at);
    }
  }
  static void aim_parts(auto& parts, const std::vector<tensor>& at) {
    aim_all(std::get<0>(parts), at);
    aim_all(std::get<1>(parts), at, FA::inputs);
  }
  static auto wide(const S& m) {
    auto a = FA::wide(std::get<0>(m.mixers));
    auto b = FB::wide(std::get<1>(m.mixers));
    if constexpr (S::gated) return weft::gated_sum(a, b);
    else return weft::sum(a, b);
  }
  static S integral(S m) { return m; }
};
template <class A, class B>
struct family<weft::mixer_sum<A, B>> : pair_family<weft::mixer_sum<A, B>, A, B> {};
template <class A, class B>
struct family<weft::gated_mixer_sum<A, B>> : pair_family<weft::gated_mixer_sum<A, B>, A, B> {};

// Two of one kind read the same tensors.
template <class A>
struct family<weft::mixer_sum<A, A>> : family<A> {
  using M = weft::mixer_sum<A, A>;
  using FA = family<A>;
  static index grid(const M&, const sizes&) { return 0; }
  static void size(const M& m, sizes& s, dice& d) { FA::size(std::get<0>(m.mixers), s, d); }
  static auto wide(const M& m) { return weft::sum(FA::wide(std::get<0>(m.mixers)), FA::wide(std::get<1>(m.mixers))); }
  static M integral(M m) { return m; }
};

// Names in a sum carry their part's number; the usual numbers go by the bare name.
inline void fill_parts(problem& p, dice& d) {
  for (field& f : p.fields) {
    const std::string_view bare = f.info.name.substr(f.info.name.find('.') + 1);
    if (bare == "g") fill_decays(f.values, gates::mild, d);
    if (bare == "beta") fill_betas(f.values, betas::random, d);
  }
}

}  // namespace contract
