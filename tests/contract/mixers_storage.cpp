// One mixer of each class over the other storage types.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

auto& gla_double = add<weft::gla<double>>("gla double");
auto& gated_delta_double = add<weft::gated_delta_rule<double>>("gated_delta double");
auto& dplr_double = add<weft::dplr<double>>("dplr double");
auto& dplr_bf16 = add<weft::dplr<weft::bf16>>("dplr bf16");
const auto& gated_delta_bf16 = add<weft::gated_delta_rule<weft::bf16>>("gated_delta bf16");
const auto& simple_gla_fp16 = add<weft::simple_gla<weft::fp16>>("simple_gla fp16");


// States of 16 bits, one mixer of each class.
template <class P, class S, class T = float>
using narrow = weft::recurrence<P, T, S>;
const auto& gla_state_bf16 = add<narrow<weft::gla_policy, weft::bf16>>("gla state bf16");
const auto& gated_delta_state_bf16 = add<narrow<weft::gated_delta_policy, weft::bf16>>("gated_delta state bf16");
const auto& gated_delta_state_fp16 = add<narrow<weft::gated_delta_policy, weft::fp16, weft::fp16>>("gated_delta fp16 state fp16");
auto& normalised_state_bf16 = add<narrow<weft::linear_attention_policy<true>, weft::bf16>>("linear_attention normalised state bf16");
auto& rwkv7_state_bf16 = add<narrow<weft::rwkv7_policy, weft::bf16, weft::bf16>>("rwkv7 bf16 state bf16");

const bool set = [] {
  rwkv7_state_bf16.adapt = removal_keys;
  normalised_state_bf16.exact = false;  // divides
  normalised_state_bf16.smooth = keys_off_zero;
  dplr_double.adapt = dplr_bf16.adapt = removal_keys;
  // The definition in double is all there is to compare with, and rounds as often.
  gla_double.bound = gated_delta_double.bound = dplr_double.bound = 32;
  return true;
}();

}  // namespace
}  // namespace contract
