#include "gradient_accuracy.hpp"
#include "gradient_errors.hpp"
#include "gradient_independence.hpp"

TEST_CASE("gradients are differences of the definition") { contract::for_each_subject(10, contract::gradients_are_differences); }
TEST_CASE("gradients of nothing, of one token and of empty sequences") { contract::for_each_subject(1, contract::gradients_at_the_edges); }
TEST_CASE("gradients are adjoint where the mixer is linear") { contract::for_each_subject(20, contract::gradients_are_adjoint); }
TEST_CASE("gradients are as exact as their type allows") { contract::for_each_subject(60, contract::gradients_are_accurate); }
TEST_CASE("gradients of pieces are those of the whole") { contract::for_each_subject(20, contract::gradients_of_pieces_are_those_of_the_whole); }
TEST_CASE("gradients do not depend on workers, on the tape's memory or on what else is wanted") { contract::for_each_subject(12, contract::gradients_are_one); }
TEST_CASE("gradients see no other sequence and no other heads") { contract::for_each_subject(60, contract::gradients_are_contained); }
TEST_CASE("a wrong way back is refused") { contract::for_each_subject(1, contract::refuses_wrong_ways_back); }
