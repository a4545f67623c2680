// Where results go, and where their gradients come from: a view of the storage type, or of the wider accumulating type.
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
    requires(!std::convertible_to<V, view<T, Rank>> && std::convertible_to<V, view<wide_type, Rank>>)
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

// The gradient of a result, read only. Null: zero.
template <storage T, int Rank>
class cotangent {
 public:
  using wide_type = accumulate_t<T>;

  cotangent() = default;
  template <class V>
    requires(std::convertible_to<V, view<const T, Rank>> || std::convertible_to<V, view<const wide_type, Rank>>)
  cotangent(V&& v) {  // NOLINT: implicit by design
    if constexpr (std::convertible_to<V, view<const T, Rank>>) set<T>(v);
    else set<wide_type>(v);
  }

  bool null() const { return of_.null(); }
  const output<T, Rank>& place() const { return of_; }  // nobody writes there
  // f(view of const) with the view of the real element type.
  template <class F>
  decltype(auto) visit(F&& f) const {
    return of_.visit([&](const auto& v) -> decltype(auto) { return f(view<const typename std::remove_cvref_t<decltype(v)>::element, Rank>(v)); });
  }

 private:
  template <class U>
  void set(const view<const U, Rank>& v) {
    of_ = view<U, Rank>(const_cast<U*>(v.data), v.extent, v.stride);
  }
  output<T, Rank> of_;
};

}  // namespace v1
}  // namespace weft
