// What a user compiles for one mixer; without WEFT_ONE_MIXER its headers alone.
#include <weft/backend/cuda/recurrence_scan.hpp>
#include <weft/core/verbs.hpp>
#include <weft/recurrence/delta_rule.hpp>

#ifdef WEFT_ONE_MIXER
void use(weft::cuda& gpu, const weft::WEFT_ONE_MIXER& mixer, const weft::WEFT_ONE_MIXER::inputs& in, weft::recurrent_state<float, weft::device_array>& state,
         const weft::WEFT_ONE_MIXER::outputs& out) {
  weft::scan(gpu, mixer, in, state, out);
  weft::step(gpu, mixer, in, state, out);
}
#endif
