#include "independence.hpp"

TEST_CASE("a token reaches later outputs of its own head only") { contract::for_each_subject(100, contract::contained); }
TEST_CASE("results do not depend on the number of threads") { contract::for_each_subject(15, contract::threads_agree); }
TEST_CASE("calls at the same time do not meet") { contract::for_each_subject(8, contract::calls_are_independent); }
TEST_CASE("an output may lie on q or v and nowhere else") { contract::for_each_subject(60, contract::in_place); }
