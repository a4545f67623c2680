// The contract suite on the device: the same checks as on the CPU.
#include "../contract/accuracy.hpp"
#include "../contract/errors.hpp"
#include "../contract/independence.hpp"
#include "../contract/state.hpp"

TEST_CASE("on the GPU, a scan is as exact as its type allows") { contract::for_each_subject(60, contract::accurate); }
TEST_CASE("on the GPU, scan, step and the definition agree") { contract::for_each_subject(15, contract::modes_agree); }
TEST_CASE("on the GPU, integers stay exact") { contract::for_each_subject(30, contract::integers_are_exact); }
TEST_CASE("on the GPU, a token reaches later outputs of its own head only") { contract::for_each_subject(30, contract::contained); }
TEST_CASE("on the GPU, calls at the same time do not meet") { contract::for_each_subject(2, contract::calls_are_independent); }
TEST_CASE("on the GPU, an output may lie on q or v and nowhere else") { contract::for_each_subject(20, contract::in_place); }
TEST_CASE("on the GPU, a split sequence gives what the whole one gives") { contract::for_each_subject(20, contract::splits_agree); }
TEST_CASE("on the GPU, a state goes on as if nothing had happened") { contract::for_each_subject(10, contract::resumes); }
TEST_CASE("on the GPU, a wrong call is refused before anything is written") { contract::for_each_subject(2, contract::refuses_wrong_calls); }
