// The memory of gradients before there are any.
#pragma once
#include "executor.hpp"
#include "verbs.hpp"
#include "zero_gradient.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The most memory that the gradients of a call take, by a rehearsal of scan and vjp with the arguments that these will have: nothing is
// computed, no view is read or written (of an input one row may stand for all, by strides of 0), but for a moment it takes what it
// tells. Of any mixer or layer whose calls are all or nothing, on an executor of so many workers; all gradients of the state are
// wanted. Throws as the two calls.
template <class M>
gradient_bytes gradient_memory(const cpu& executor, const M& mixer, const inputs_t<M>& in, const state_t<M>& state, const outputs_t<M>& out,
                               const cotangents_t<M>& d_out, const gradients_t<M>& d_in, index every = tape{}.every, std::span<const index> cu_seqlens = {}) {
  cpu forwards = executor.fresh(), back = executor.fresh();
  tape kept{.every = every};
  auto after = state;
  auto d_state = zero_state_gradient(mixer, state);
  {
    const rehearsal nothing_written(forwards);
    scan(forwards, mixer, in, after, out, kept, cu_seqlens);
  }
  const rehearsal nothing_written(back);
  vjp(back, mixer, in, kept, d_out, d_state, d_in);
  return {.tape = kept.bytes(), .vjp = back.bytes()};
}

}  // namespace WEFT_ISA
}  // namespace weft
