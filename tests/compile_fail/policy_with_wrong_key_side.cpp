#include <weft/recurrence/recurrence.hpp>
struct policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
  };
  static constexpr weft::axes axes{};
  template <class R>
#ifdef WEFT_BAD
  static R key_side(const auto& in) { return in.q * in.k; }
#else
  static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k}; }
#endif
  template <class R>
  static R write(const auto& in) { return in.v; }
};
weft::recurrence<policy, float> mixer;
