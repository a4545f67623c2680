#include "golden_run.hpp"

TEST_CASE("golden hybrids, every mode, float and double") {
  golden::check_operator("rat");
  golden::check_operator("aaren");
}

TEST_CASE("golden hybrids, 16-bit storage") {
  golden::check_16_bit("rat");
  golden::check_16_bit("aaren");
}

TEST_CASE("golden gradients of hybrids") {
  golden::check_gradients("rat");
  golden::check_gradients("aaren");
}
