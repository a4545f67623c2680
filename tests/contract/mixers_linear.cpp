// Class L with constant decays or none.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

const auto& linear = add<weft::linear_attention<float>>("linear_attention");
auto& linear_relu = add<weft::linear_attention<float>>("linear_attention relu", {.policy = {weft::feature_map::relu}});
auto& normalised = add<weft::linear_attention_normalised<float>>("linear_attention normalised");
const auto& retention = add<weft::retention<float>>("retention");
const auto& lightning = add<weft::lightning<float>>("lightning");

const bool set = [] {
  normalised.exact = false;  // divides
  linear_relu.smooth = normalised.smooth = keys_off_zero;
  return true;
}();

}  // namespace
}  // namespace contract
