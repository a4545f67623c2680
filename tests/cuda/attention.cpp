// Attention on the GPU under the contract, as on the CPU (tests/contract/mixers_attention.cpp).
#include "device_subject.hpp"

namespace contract {
namespace {

using weft::window;
auto& dense = add_on_device<weft::attention<float>>("attention dense");
auto& capped = add_on_device<weft::attention<float>>("attention dense soft cap", {.scale = 3.0, .softcap = 2});
auto& local = add_on_device<weft::attention<float, window>>("attention window", {.select = {.window = 9, .kept = 3}});
auto& wide_window = add_on_device<weft::attention<float, window>>("attention window wide", {.select = {.window = 70}});
auto& both_ways = add_on_device<weft::attention<float>>("attention dense both ways", {.causal = false});
auto& dense_bf16 = add_on_device<weft::attention<weft::bf16>>("attention dense bf16");
auto& local_fp16 = add_on_device<weft::attention<weft::fp16, window>>("attention window fp16", {.select = {.window = 9, .kept = 3}});
auto& dense_double = add_on_device<weft::attention<double>>("attention dense double");

const bool set = [] {
  for (subject* m : std::initializer_list<subject*>{&dense, &capped, &local, &wide_window, &both_ways, &dense_bf16, &local_fp16, &dense_double}) m->exact = false;  // exponentials
  both_ways.causal = false;
  dense_double.bound = 64;  // the definition in double is all there is to compare with, and rounds as often
  return true;
}();

}  // namespace
}  // namespace contract
