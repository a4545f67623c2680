// RAT, Aaren, and mixers made of mixers.
#include "hybrid_subject.hpp"

namespace contract {
namespace {

auto& rat4 = add<weft::rat<float>>("rat of 4", {.chunk_size = 4});
auto& rat16 = add<weft::rat<float>>("rat of 16", {.rope_base = 0});
auto& rat200 = add<weft::rat<float>>("rat of 200", {.chunk_size = 200});
auto& rat_bf16 = add<weft::rat<weft::bf16>>("rat bf16", {.chunk_size = 7});
auto& aaren = add<weft::aaren<float>>("aaren");
auto& aaren_fp16 = add<weft::aaren<weft::fp16>>("aaren fp16");

const bool set = [] {
  for (subject* m : std::initializer_list<subject*>{&rat4, &rat16, &rat200, &rat_bf16, &aaren, &aaren_fp16}) m->exact = false;  // exponentials
  return true;
}();

}  // namespace
}  // namespace contract
