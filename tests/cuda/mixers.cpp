// Every recurrence on the GPU, as on the CPU (tests/contract/mixers_*.cpp).
#include "../recurrence/example_policy.hpp"
#include "../contract/accuracy.hpp"
#include "device_subject.hpp"

namespace contract {
namespace {

const auto& linear = add_on_device<weft::linear_attention<float>>("linear_attention");
const auto& linear_relu = add_on_device<weft::linear_attention<float>>("linear_attention relu", {.policy = {weft::feature_map::relu}});
auto& normalised = add_on_device<weft::linear_attention_normalised<float>>("linear_attention normalised");
const auto& retention = add_on_device<weft::retention<float>>("retention");
const auto& gla = add_on_device<weft::gla<float>>("gla");
const auto& simple_gla = add_on_device<weft::simple_gla<float>>("simple_gla");
const auto& hgrn2 = add_on_device<weft::hgrn2<float>>("hgrn2");
const auto& rwkv6 = add_on_device<weft::rwkv6<float>>("rwkv6");
auto& mamba2 = add_on_device<weft::mamba2<float>>("mamba2");
auto& mamba2_raw = add_on_device<weft::mamba2<float>>("mamba2 raw steps", {.policy = {.dt_softplus = false, .dt_max = 3}});
const auto& delta = add_on_device<weft::delta_rule<float>>("delta");
const auto& gated_delta = add_on_device<weft::gated_delta_rule<float>>("gated_delta");
const auto& gated_delta_unit = add_on_device<weft::gated_delta_rule<float>>("gated_delta unit keys", {.qk_l2norm = true});
const auto& kda = add_on_device<weft::kda<float>>("kda");
const auto& gdn2 = add_on_device<weft::gdn2<float>>("gdn2");
auto& comba = add_on_device<weft::comba<float>>("comba");
const auto& one_step = add_on_device<weft::gated_delta_product<float>>("gated_delta_product of 1");
const auto& three_steps = add_on_device<weft::gated_delta_product<float>>("gated_delta_product of 3", {.micro_steps = 3});
auto& rwkv7 = add_on_device<weft::rwkv7<float>>("rwkv7");
auto& own = add_on_device<weft::recurrence<leaky_delta, float>>("a policy of a user");
auto& dplr_double = add_on_device<weft::dplr<double>>("dplr double");
auto& dplr_bf16 = add_on_device<weft::dplr<weft::bf16>>("dplr bf16");
const auto& simple_gla_fp16 = add_on_device<weft::simple_gla<weft::fp16>>("simple_gla fp16");

const bool set = [] {
  normalised.exact = false;  // divides
  mamba2.exact = false;      // softplus
  own.exact = false;         // sigmoid
  mamba2.adapt = [](problem& p, dice& d) { negative_rates(p, d, false); };
  mamba2_raw.adapt = [](problem& p, dice& d) { negative_rates(p, d, true); };
  comba.adapt = weakened_key;
  rwkv7.adapt = dplr_double.adapt = dplr_bf16.adapt = removal_keys;
  dplr_double.bound = 64;  // the definition in double is all there is to compare with, and rounds as often
  return true;
}();

}  // namespace

// Rounded after every call, so it makes no promise about splits.
TEST_CASE("on the GPU, a 16-bit state is as exact as its type allows") {
  using mixer = weft::recurrence<weft::gated_delta_policy, float, weft::bf16>;
  device_subject<mixer> m(mixer{});
  m.name = "gated_delta with a bf16 state";
  repeat(m, 100, accurate);
}

}  // namespace contract
