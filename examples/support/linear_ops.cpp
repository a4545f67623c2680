// Operators that add without decay, or with one constant a head.
#include "recurrence_op.hpp"

namespace ops {
namespace {

template <bool Normalised>
results linear(const call& c) {
  return recurrence_operator<weft::linear_attention_policy<Normalised>>(c, [&](auto& policy) {
    constexpr weft::feature_map maps[] = {weft::feature_map::identity, weft::feature_map::elu1, weft::feature_map::relu};
    policy.map = maps[c.options.choice("feature_map", {"identity", "elu1", "relu"}, Normalised ? 1 : 0)];
  });
}

}  // namespace

std::vector<op> linear_operators() {
  return {
      recurrence_row<weft::linear_attention_policy<false>>("linear_attention", linear<false>, {"feature_map"}),
      recurrence_row<weft::linear_attention_policy<true>>("linear_attention_normalised", linear<true>, {"feature_map"}),
      recurrence_row<weft::retention_policy>("retention"),
  };
}

}  // namespace ops
