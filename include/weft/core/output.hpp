// Where results go: a view of the storage type, or of the wider accumulating type.
#pragma once
#include "dtype.hpp"
#include "view.hpp"

namespace weft {
inline namespace v1 {

template <storage T, int Rank>
struct output {
  using wide_type = accumulate_t<T>;

  void* data = nullptr;
  bool wide = false;  // elements are accumulate_t<T>, not T
  std::array<index, Rank> extent{};
  std::array<index, Rank> stride{};

  output() = default;
  template <class V>
    requires(std::convertible_to<V, view<T, Rank>>)
  output(V&& v) { set(view<T, Rank>(v), std::is_same_v<T, wide_type>); }  // NOLINT: implicit by design
  template <class V>
    requires(!std::is_same_v<T, wide_type> && std::convertible_to<V, view<wide_type, Rank>>)
  output(V&& v) { set(view<wide_type, Rank>(v), true); }  // NOLINT: implicit by design

  template <class V>
    requires(!std::convertible_to<V, view<T, Rank>> && !std::convertible_to<V, view<wide_type, Rank>> && requires { std::remove_cvref_t<V>::rank; })
  output(V&&) {  // NOLINT: only says what is wrong
    static_assert(sizeof(V) == 0, "weft: an output takes a writable view of its rank, of the mixer's storage type or of the accumulating type");
  }

  bool null() const { return data == nullptr; }
  view<T, Rank> narrow_view() const { return {static_cast<T*>(data), extent, stride}; }
  view<wide_type, Rank> wide_view() const { return {static_cast<wide_type*>(data), extent, stride}; }
  // f(view) with the view of the real element type.
  template <class F>
  decltype(auto) visit(F&& f) const {
    if constexpr (!std::is_same_v<T, wide_type>)
      if (!wide) return f(narrow_view());
    return f(wide_view());
  }

 private:
  template <class U>
  void set(const view<U, Rank>& v, bool is_wide) {
    data = v.data;
    extent = v.extent;
    stride = v.stride;
    wide = is_wide;
  }
};

}  // namespace v1
}  // namespace weft
