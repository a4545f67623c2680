#include "errors.hpp"

TEST_CASE("a wrong call is refused before anything is written") { contract::for_each_subject(3, contract::refuses_wrong_calls); }
