// Trained hidden states in front of every sequence (prompt and prefix tuning; Lester et al. 2021, arXiv 2104.08691). A layer folds them
// as it folds tokens, so a state tuned this way has at most the prefix's rank; attention reads them as virtual keys.
#pragma once
#include "trained.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class R>
class soft_prefix {
 public:
  // `first` [tokens, hidden]: what training starts from.
  explicit soft_prefix(array<R, 2> first) : prefix_(std::move(first)), gradient_(prefix_.extent()) {}
  soft_prefix(const soft_prefix&) = delete;  // its list points into it

  index tokens() const { return prefix_.extent(0); }
  index parameters() const { return prefix_.size(); }
  std::vector<trained<R>> list() {
    const auto n = static_cast<std::size_t>(prefix_.size());
    return {{"prefix", {prefix_.data(), n}, {gradient_.data(), n}}};
  }

  // x [B, T, hidden] behind the prefix, [B, tokens + T, hidden].
  array<R, 3> before(view<const R, 3> x) const {
    require(x.extent[2] == prefix_.extent(1), errc::shape, "x: expected ", prefix_.extent(1), " channels, got ", x.extent[2]);
    const index B = x.extent[0], n = x.extent[1], d = x.extent[2], m = tokens();
    array<R, 3> all({B, m + n, d});
    for (index b = 0; b < B; ++b) {
      std::copy_n(prefix_.data(), m * d, &all(b, 0, 0));
      for (index t = 0; t < n; ++t) std::copy_n(&x(b, t, 0), d, &all(b, m + t, 0));
    }
    return all;
  }
  // What the head is asked for: nothing after the prefix's own tokens.
  array<std::int64_t, 2> before(view<const std::int64_t, 2> targets, std::int64_t none) const {
    array<std::int64_t, 2> all({targets.extent[0], tokens() + targets.extent[1]});
    std::fill_n(all.data(), all.size(), none);
    for (index b = 0; b < targets.extent[0]; ++b) std::copy_n(&targets(b, 0), targets.extent[1], &all(b, tokens()));
    return all;
  }
  // Adds the gradient of what before() returned, [B, tokens + T, hidden], summed over the batch.
  void add(view<const R, 3> d_all) {
    require(d_all.extent[1] >= tokens() && d_all.extent[2] == prefix_.extent(1), errc::shape, "gradient behind the prefix: expected at least ", tokens(), " tokens of ",
            prefix_.extent(1), " channels, got ", check::list(d_all.extent));
    for (index b = 0; b < d_all.extent[0]; ++b)
      for (index t = 0; t < tokens(); ++t)
        for (index c = 0; c < prefix_.extent(1); ++c) gradient_(t, c) += d_all(b, t, c);
  }

 private:
  array<R, 2> prefix_, gradient_;
};

}  // namespace WEFT_ISA
}  // namespace weft
