#include "layer_calls.hpp"

#include "../catch.hpp"

TEST_CASE("on the GPU, convolutions, norms and rotary embeddings are the definitions") { CHECK(contract::wrong_layer_calls() == std::vector<std::string>{}); }
