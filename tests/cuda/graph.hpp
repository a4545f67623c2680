// A prefill and decode steps, called, and captured once and replayed; outputs and the last state, on the host.
#pragma once
#include <vector>

namespace contract {

struct called_and_replayed {
  std::vector<float> called, replayed, replayed_on_new_inputs, called_on_new_inputs;
};
called_and_replayed graph_of_prefill_and_decode();

// Whether a capture that would need a larger workspace is refused with a sentence that says what to do.
bool growing_capture_is_refused();

}  // namespace contract
