// The public verbs. Each checks its arguments' types by a sentence of ours, then their values, then hands over to the
// engine of the mixer on the executor (run_scan, run_step: found by argument-dependent lookup).
#pragma once
#include <concepts>
#include <span>
#include <type_traits>
#include <utility>

#include "state.hpp"
#include "tape.hpp"

namespace weft {
inline namespace v1 {

// A mixer names its inputs, outputs and state, and makes a state from a shape.
template <class M>
concept mixer = requires(const M& m) {
  typename M::inputs;
  typename M::outputs;
  typename M::state_type;
  { m.state(shape{}) } -> std::same_as<typename M::state_type>;
};

namespace detail {
// Looked up before overloads are: a type that is no mixer fails with our sentence first.
template <class M>
struct mixer_types {
  static_assert(mixer<M>, "weft: the second argument is not a mixer: it needs inputs, outputs, state_type and state(shape)");
  using mixer_type = M;
  using inputs = typename M::inputs;
  using outputs = typename M::outputs;
  using state_type = typename M::state_type;
};

// A state whose arrays lie on a device stands for the state of the host: state_type names its form with other arrays `with`.
template <class S, class Own>
concept own_state_elsewhere = !std::is_const_v<S> && requires {
  typename S::template with<array>;
  requires std::same_as<typename S::template with<array>, Own>;
};

// A state of another mixer or element type fails with our sentence, not with a failed conversion.
template <class M, class S>
struct own_state {
  static_assert(std::same_as<S, typename mixer_types<M>::state_type> || own_state_elsewhere<S, typename mixer_types<M>::state_type>,
                "weft: the state is not this mixer's: make it by mixer.state(shape), and pass it writable");
  static constexpr bool holds = true;
};
}  // namespace detail

template <class M>
using inputs_t = typename detail::mixer_types<M>::inputs;
template <class M>
using outputs_t = typename detail::mixer_types<M>::outputs;
template <class M>
using state_t = typename detail::mixer_types<M>::state_type;
template <class M>
using cotangents_t = typename detail::mixer_types<M>::mixer_type::cotangents;
template <class M>
using state_gradient_t = typename detail::mixer_types<M>::mixer_type::state_gradient;
template <class M>
using gradients_t = typename detail::mixer_types<M>::mixer_type::gradients;
template <class M, class S>
inline constexpr bool owns_state = detail::own_state<M, S>::holds;

}  // namespace v1

inline namespace WEFT_ISA {

// Folds a sequence, or the next piece of one, into the state and writes the outputs.
//
// With cu_seqlens [N + 1], the inputs are N sequences packed along time (batch 1) and the state has N rows.
// Linear in the tokens for recurrences. Any length, 0 included. An output may be exactly the view of q or v.
// Throws weft::error before anything is written. A scan stopped anywhere and resumed gives what the unbroken one gives.
template <class Executor, class M, class S>
void scan(Executor&& executor, const M& mixer, const inputs_t<M>& in, S& state, const outputs_t<M>& out,
          std::span<const index> cu_seqlens = {}) {
  static_assert(owns_state<M, S>);
  static_assert(requires { run_scan(executor, mixer, in, state, out, cu_seqlens); },
                "weft: this executor cannot scan this mixer: include the mixer's engine, or check the executor's type");
  run_scan(executor, mixer, in, state, out, cu_seqlens);
}

// One token for each sequence of the batch (time extent 1): decoding, at one read and one write of the state.
template <class Executor, class M, class S>
void step(Executor&& executor, const M& mixer, const inputs_t<M>& in, S& state, const outputs_t<M>& out) {
  static_assert(owns_state<M, S>);
  static_assert(requires { run_step(executor, mixer, in, state, out); },
                "weft: this executor cannot step this mixer: include the mixer's engine, or check the executor's type");
  run_step(executor, mixer, in, state, out);
}

// The same scan, which also leaves on the tape what its gradients need.
template <class Executor, class M, class S>
void scan(Executor&& executor, const M& mixer, const inputs_t<M>& in, S& state, const outputs_t<M>& out, tape& tape,
          std::span<const index> cu_seqlens = {}) {
  static_assert(owns_state<M, S>);
  static_assert(requires { run_record(executor, mixer, in, state, out, tape, cu_seqlens); }, "weft: this mixer has no gradients on this executor");
  run_record(executor, mixer, in, state, out, tape, cu_seqlens);
}

// Gradients of everything that the scan read, from those of what it wrote; the inputs are the scan's, unchanged.
//
// d_state is a value as scan's state is: the gradient of the state after the scan goes in (zeros: none), that of the state
// before it comes out. So a sequence cut in pieces goes back through its pieces' tapes with one d_state.
// A null view among `d_out` is a gradient of zero, among `d_in` one that is not wanted. With no d_in at all only the state's
// gradient is computed, by the reverse scan alone. Gradients are overwritten, not added to. Linear in the tokens for
// recurrences; bit-identical for any number of workers. Throws weft::error before anything is written.
template <class Executor, class M>
void vjp(Executor&& executor, const M& mixer, const inputs_t<M>& in, const tape& tape, const cotangents_t<M>& d_out, state_gradient_t<M>& d_state,
         const gradients_t<M>& d_in = {}) {
  static_assert(requires { run_vjp(executor, mixer, in, tape, d_out, d_state, d_in); }, "weft: this mixer has no gradients on this executor");
  run_vjp(executor, mixer, in, tape, d_out, d_state, d_in);
}

// The specification: token by token in plain scalar code, in the accumulating type. Slow; what everything else is tested by.
template <class M, class S>
void literal(const M& mixer, const inputs_t<M>& in, S& state, const outputs_t<M>& out, std::span<const index> cu_seqlens = {}) {
  static_assert(owns_state<M, S>);
  static_assert(requires { run_literal(mixer, in, state, out, cu_seqlens); }, "weft: this mixer has no literal form");
  run_literal(mixer, in, state, out, cu_seqlens);
}

// Checks values, which the verbs do not: throws errc::value naming the first tensor with a NaN, a growing decay or a beta
// out of range. Reads every element once.
template <class M>
void validate(const M& mixer, const inputs_t<M>& in) {
  static_assert(requires { run_validate(mixer, in); }, "weft: this mixer has no value checks");
  run_validate(mixer, in);
}

}  // namespace WEFT_ISA
}  // namespace weft
