// Attention and its selectors.
#include "adapt.hpp"
#include "mixer_subject.hpp"

namespace contract {
namespace {

using weft::window;
auto& dense = add<weft::attention<float>>("attention dense");
auto& capped = add<weft::attention<float>>("attention dense soft cap", {.scale = 3.0, .softcap = 2});
auto& local = add<weft::attention<float, window>>("attention window", {.select = {.window = 9, .kept = 3}});
auto& wide_window = add<weft::attention<float, window>>("attention window wide", {.select = {.window = 70}});
auto& both_ways = add<weft::attention<float>>("attention dense both ways", {.causal = false});
auto& dense_bf16 = add<weft::attention<weft::bf16>>("attention dense bf16");
auto& local_fp16 = add<weft::attention<weft::fp16, window>>("attention window fp16", {.select = {.window = 9, .kept = 3}});
auto& top_tokens = add<weft::attention<float, weft::top_tokens>>("attention top tokens", {.select = {.topk = 6}});
auto& top_blocks = add<weft::attention<float, weft::top_blocks>>("attention top blocks", {.select = {.topk = 3, .block_size = 8}});
auto& few_blocks = add<weft::attention<float, weft::top_blocks>>("attention top blocks of 33", {.select = {.topk = 2, .block_size = 33}});

const bool set = [] {
  for (subject* m : std::initializer_list<subject*>{&dense, &capped, &local, &wide_window, &both_ways, &dense_bf16, &local_fp16, &top_tokens, &top_blocks,
                                               &few_blocks})
    m->exact = false;  // exponentials
  both_ways.causal = false;
  for (subject* m : std::initializer_list<subject*>{&top_tokens, &top_blocks, &few_blocks}) m->selects = true, m->smooth = unequal_keys;
  return true;
}();

}  // namespace
}  // namespace contract
