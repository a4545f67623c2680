#include "state.hpp"

TEST_CASE("a split sequence gives what the whole one gives") { contract::for_each_subject(60, contract::splits_agree); }
TEST_CASE("a state goes on as if nothing had happened") { contract::for_each_subject(30, contract::resumes); }
