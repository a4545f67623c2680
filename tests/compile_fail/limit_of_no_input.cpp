#include <weft/recurrence/recurrence.hpp>
struct policy {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
  };
  static constexpr weft::axes axes{};
  static constexpr std::array names{"q", "k", "v"};
#ifdef WEFT_BAD
  static constexpr std::array limits{weft::limit{"beta", 0, 1}};
#else
  static constexpr std::array limits{weft::limit{"v", 0, 1}};
#endif
  template <class R>
  static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k}; }
  template <class R>
  static R write(const auto& in) { return in.v; }
};
weft::recurrence<policy, float> mixer;
