#include <weft/recurrence/recurrence.hpp>
struct policy {
#ifndef WEFT_BAD
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
  };
#endif
  static constexpr weft::axes axes{};
  template <class R>
  static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k}; }
  template <class R>
  static R write(const auto& in) { return in.v; }
};
weft::recurrence<policy, float> mixer;
