// Class D: the erase writes along its own key.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

const auto& delta = add<weft::delta_rule<float>>("delta");
const auto& gated_delta = add<weft::gated_delta_rule<float>>("gated_delta");
auto& gated_delta_unit = add<weft::gated_delta_rule<float>>("gated_delta unit keys", {.qk_l2norm = true});
const auto& kda = add<weft::kda<float>>("kda");

const bool set = [] {
  gated_delta_unit.smooth = keys_off_zero;
  return true;
}();

}  // namespace
}  // namespace contract
