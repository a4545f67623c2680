#include "golden_run.hpp"

TEST_CASE("golden attention, every mode, float and double") {
  golden::check_operator("softmax_attention");
  golden::check_operator("sliding_window_attention");
}

TEST_CASE("golden gradients of attention") {
  golden::check_gradients("softmax_attention");
  golden::check_gradients("sliding_window_attention");
}

TEST_CASE("golden attention, 16-bit storage") {
  golden::check_16_bit("softmax_attention");
  golden::check_16_bit("sliding_window_attention");
}
