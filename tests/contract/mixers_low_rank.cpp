// Class R: the erase has a writer of its own.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

auto& dplr = add<weft::dplr<float>>("dplr");
auto& rwkv7 = add<weft::rwkv7<float>>("rwkv7");

const bool set = [] {
  dplr.adapt = rwkv7.adapt = removal_keys;
  return true;
}();

}  // namespace
}  // namespace contract
