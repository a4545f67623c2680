// Short convolutions.
#include "mixer_subject.hpp"

namespace contract {
namespace {

const auto& conv4 = add<weft::short_conv<float>>("short_conv of 4");
const auto& conv1 = add<weft::short_conv<float>>("short_conv of 1", {.taps = 1});
const auto& conv2 = add<weft::short_conv<float>>("short_conv of 2", {.taps = 2, .activation = weft::activation::silu});
const auto& conv7 = add<weft::short_conv<float>>("short_conv of 7", {.taps = 7});
const auto& conv4_bf16 = add<weft::short_conv<weft::bf16>>("short_conv of 4 bf16");
const auto& conv3_fp16 = add<weft::short_conv<weft::fp16>>("short_conv of 3 fp16", {.taps = 3});

}  // namespace
}  // namespace contract
