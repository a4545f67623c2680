// The elements of views and what validate() says of them; the views of gradients.
#pragma once
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "dtype.hpp"
#include "members.hpp"
#include "state.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

// f(value, position) for every element.
template <class View, class F>
void each_element(const View& v, F&& f) {
  if (v.null() || v.size() == 0) return;
  std::array<index, View::rank> at{};
  for (;;) {
    index offset = 0;
    for (std::size_t d = 0; d < at.size(); ++d) offset += at[d] * v.stride[d];
    f(v.data[offset], at);
    std::size_t d = at.size();
    while (d > 0 && ++at[d - 1] == v.extent[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

// f(name, view) for every input of a mixer that lists their names, in order.
template <class M, class F>
void each_named_input(const typename M::inputs& in, F&& f) {
  for_each_member(in, [&](const auto& v, auto i) { f(M::names[i], static_cast<const typename std::remove_cvref_t<decltype(v)>::base&>(v)); });
}

// Refuses a NaN or an infinity, but -inf where that means something; `where` ends the sentence.
template <class R, class... Where>
WEFT_INLINE void require_number(std::string_view name, R e, bool or_minus_infinity, const Where&... where) {
  require(std::isfinite(e) || (or_minus_infinity && std::isinf(e) && e < 0), errc::value, name, ": expected ", or_minus_infinity ? "numbers or -inf" : "finite numbers",
          ", got ", e, where...);
}

// Throws errc::value naming the tensor where it has a NaN or an infinity (-inf may mean something), errc::shape where no memory has it.
// Then also(element, position), in the same pass.
template <class View, class Also>
void require_numbers(std::string_view name, const View& v, bool or_minus_infinity, Also&& also) {
  using R = accumulate_t<std::remove_const_t<typename View::element>>;
  check::tensor(name, v, v.extent, true, false);
  each_element(v, [&](const auto& element, const auto& at) {
    const R e = static_cast<R>(element);
    require_number(name, e, or_minus_infinity, " at ", check::list(at));
    also(e, at);
  });
}
template <class View>
void require_numbers(std::string_view name, const View& v, bool or_minus_infinity) {
  require_numbers(name, v, or_minus_infinity, [](auto, const auto&) {});
}
// The same, and a log-decay, which may be -inf, does not grow.
template <class View>
void require_finite(std::string_view name, const View& v, bool log_decay = false) {
  require_numbers(name, v, log_decay, [&](auto e, const auto& at) {
    require(!log_decay || e <= 0, errc::value, name, ": expected a log-decay of at most 0, got ", e, " at ", check::list(at));
  });
}

// The gradients' views: of extents_of(constant index), apart from what is read and from each other.
template <class M>
void check_gradients(const typename M::inputs& in, const typename M::cotangents& d_out, const typename M::state_gradient& d_state,
                     const typename M::gradients& d_in, auto&& extents_of) {
  check::gradient_places places;
  for_each_part(d_state, [&](const auto& p) { places.write(check::operand("d_state", p.data.view())); });
  each_named_input<M>(in, [&](std::string_view name, const auto& v) { places.read(check::operand(name, v)); });
  d_out.o.visit([&](const auto& o) { places.read(check::operand("d_o", o)); });
  for_each_member(d_in, [&](const auto& d, auto i) {
    d.visit([&](const auto& v) {
      if (v.null()) return;
      const std::string name = "d_" + std::string(M::names[i]);
      check::result(name, v, extents_of(i), true, true);
      places.write(check::operand(name, v));
    });
  });
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
