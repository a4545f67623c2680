#include "accuracy.hpp"

TEST_CASE("a scan is as exact as its type allows") { contract::for_each_subject(300, contract::accurate); }
TEST_CASE("scan, step and the definition agree") { contract::for_each_subject(60, contract::modes_agree); }
TEST_CASE("integers stay exact") { contract::for_each_subject(60, contract::integers_are_exact); }
