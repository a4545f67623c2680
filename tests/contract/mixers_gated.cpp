// Class L with decays that depend on the token.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

const auto& gla = add<weft::gla<float>>("gla");
const auto& simple_gla = add<weft::simple_gla<float>>("simple_gla");
const auto& hgrn2 = add<weft::hgrn2<float>>("hgrn2");
const auto& rwkv6 = add<weft::rwkv6<float>>("rwkv6");
auto& mamba2 = add<weft::mamba2<float>>("mamba2");
auto& mamba2_raw = add<weft::mamba2<float>>("mamba2 raw steps", {.policy = {.dt_softplus = false, .dt_max = 3}});

const bool set = [] {
  mamba2.exact = false;  // softplus
  mamba2.adapt = [](problem& p, dice& d) { negative_rates(p, d, false); };
  mamba2_raw.adapt = [](problem& p, dice& d) { negative_rates(p, d, true); };
  return true;
}();

}  // namespace
}  // namespace contract
