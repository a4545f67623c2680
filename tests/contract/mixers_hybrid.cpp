// RAT, Aaren, and mixers made of mixers.
#include "adapt.hpp"
#include "hybrid_subject.hpp"

namespace contract {
namespace {

auto& rat4 = add<weft::rat<float>>("rat of 4", {.chunk_size = 4});
auto& rat16 = add<weft::rat<float>>("rat of 16", {.rope_base = 0});
auto& rat200 = add<weft::rat<float>>("rat of 200", {.chunk_size = 200});
auto& rat_bf16 = add<weft::rat<weft::bf16>>("rat bf16", {.chunk_size = 7});
auto& aaren = add<weft::aaren<float>>("aaren");
auto& aaren_fp16 = add<weft::aaren<weft::fp16>>("aaren fp16");
using gated_delta = weft::gated_delta_rule<float>;
using local = weft::attention<float, weft::window>;
auto& both = add("sum", weft::sum(gated_delta{}, local{.select = {.window = 9, .kept = 3}}));
auto& gated = add("gated_sum", weft::gated_sum(local{.select = {.window = 5}}, weft::rat<float>{.chunk_size = 8}));
auto& windows = add("sum of one input", weft::sum(local{.select = {.window = 9}}, local{.select = {.window = 2, .kept = 1}}));

const bool set = [] {
  for (subject* m : std::initializer_list<subject*>{&rat4, &rat16, &rat200, &rat_bf16, &aaren, &aaren_fp16, &both, &gated, &windows}) m->exact = false;  // exponentials
  aaren.smooth = aaren_fp16.smooth = unequal_keys;  // a state holds the maximum
  both.adapt = gated.adapt = fill_parts;
  return true;
}();

}  // namespace
}  // namespace contract
