#include "graph.hpp"

#include "../catch.hpp"

TEST_CASE("a captured prefill with packed sequences and its decode steps replay to the same bits") {
  const auto r = contract::graph_of_prefill_and_decode();
  CHECK(r.called == r.replayed);
  CHECK(r.called_on_new_inputs == r.replayed_on_new_inputs);
  CHECK(r.called != r.called_on_new_inputs);
  CHECK(contract::growing_capture_is_refused());
}
