#include "golden_run.hpp"

namespace {
constexpr const char* names[] = {"linear_attention", "linear_attention_normalised", "retention", "simple_gla", "gla", "hgrn2", "mamba2", "rwkv6",
                                 "delta_rule", "gated_delta_rule", "kda", "gdn2", "rwkv7", "dplr", "comba", "gated_delta_product"};
}

TEST_CASE("golden recurrences, every mode, float and double") {
  for (const char* name : names) golden::check_operator(name);
}

TEST_CASE("golden recurrences, 16-bit storage") {
  for (const char* name : names) golden::check_16_bit(name);
}

TEST_CASE("golden gradients of recurrences") {
  for (const char* name : names) golden::check_gradients(name);
}
