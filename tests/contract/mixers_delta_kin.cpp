// Class D with readers, gates or steps of their own.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

const auto& gdn2 = add<weft::gdn2<float>>("gdn2");
auto& comba = add<weft::comba<float>>("comba");
const auto& one_step = add<weft::gated_delta_product<float>>("gated_delta_product of 1");
const auto& three_steps = add<weft::gated_delta_product<float>>("gated_delta_product of 3", {.micro_steps = 3});

const bool set = [] {
  comba.adapt = weakened_key;
  return true;
}();

}  // namespace
}  // namespace contract
