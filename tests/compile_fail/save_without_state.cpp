#include <weft/io/state_file.hpp>
#include <weft/recurrence/delta_rule.hpp>
#include <vector>
void save(const weft::recurrent_state<float>& state, const std::vector<float>& numbers) {
#ifdef WEFT_BAD
  weft::save(numbers, "state.safetensors");
#else
  weft::save(state, "state.safetensors");
#endif
  static_cast<void>(state), static_cast<void>(numbers);
}
