#include "golden_run.hpp"

namespace {
constexpr const char* names[] = {"short_conv", "rms_norm_gated", "l2norm", "rotary"};
}

TEST_CASE("golden layer operators, every mode, float and double") {
  for (const char* name : names) golden::check_operator(name);
}

TEST_CASE("golden gradients of layer operators") {
  for (const char* name : names) golden::check_gradients(name);
}

TEST_CASE("golden layer operators, 16-bit storage") {
  const bool rounded = true;  // the weights, which are no exact 16-bit numbers
  for (const char* name : {"short_conv", "rms_norm_gated"}) golden::check_16_bit(name, rounded);
  for (const char* name : {"l2norm", "rotary"}) golden::check_16_bit(name);
}
