// Mixers that are no recurrences.
#include "mixer_subject.hpp"

namespace contract {
namespace {

using weft::window;
auto& dense = add<weft::attention<float>>("attention dense");
auto& capped = add<weft::attention<float>>("attention dense soft cap", {.scale = 3.0, .softcap = 2});
auto& local = add<weft::attention<float, window>>("attention window", {.select = {.window = 9, .kept = 3}});
auto& wide_window = add<weft::attention<float, window>>("attention window wide", {.select = {.window = 70}});
const auto& conv4 = add<weft::short_conv<float>>("short_conv of 4");
const auto& conv1 = add<weft::short_conv<float>>("short_conv of 1", {.taps = 1});
const auto& conv2 = add<weft::short_conv<float>>("short_conv of 2", {.taps = 2, .activation = weft::activation::silu});
const auto& conv7 = add<weft::short_conv<float>>("short_conv of 7", {.taps = 7});

const bool set = [] {
  for (subject* m : std::initializer_list<subject*>{&dense, &capped, &local, &wide_window}) m->exact = false;  // exponentials
  return true;
}();

}  // namespace
}  // namespace contract
