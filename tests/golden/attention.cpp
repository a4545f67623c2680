#include "golden_run.hpp"

namespace {
constexpr const char* names[] = {"softmax_attention", "sliding_window_attention", "topk_attention", "block_topk_attention"};
}

TEST_CASE("golden attention, every mode, float and double") {
  for (const char* name : names) golden::check_operator(name);
}

TEST_CASE("golden gradients of attention") {
  for (const char* name : names) golden::check_gradients(name);
}

TEST_CASE("golden attention, 16-bit storage") {
  for (const char* name : names) golden::check_16_bit(name);
}
