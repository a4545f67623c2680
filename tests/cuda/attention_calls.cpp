#include "attention_calls.hpp"

#include "../catch.hpp"

TEST_CASE("on the GPU, attention reads the blocks that a caller lists") { CHECK(contract::wrong_attention_lists() == std::vector<std::string>{}); }
TEST_CASE("on the GPU, attention gives the logarithms of its denominators") { CHECK(contract::wrong_attention_sums() == std::vector<std::string>{}); }
TEST_CASE("on the GPU, a captured decode step of attention grows its cache at every replay") { CHECK(contract::wrong_attention_graph() == std::vector<std::string>{}); }
TEST_CASE("attention on tensor cores computes the definition") { CHECK(contract::wrong_attention_16_bits() == std::vector<std::string>{}); }
TEST_CASE("on the GPU, attention reads and fills pages in any order") { CHECK(contract::wrong_paged_cache() == std::vector<std::string>{}); }
