// The tensor-core schedule by itself, with a slice and segments of the test's choice.
#pragma once
#include <weft/recurrence/comba.hpp>
#include <weft/recurrence/delta_rule.hpp>
#include <weft/recurrence/dplr.hpp>
#include <weft/recurrence/gated_delta_product.hpp>
#include <weft/recurrence/gdn2.hpp>
#include <weft/recurrence/gla.hpp>
#include <weft/recurrence/hgrn2.hpp>
#include <weft/recurrence/mamba2.hpp>
#include <weft/recurrence/retention.hpp>
#include <weft/recurrence/rwkv6.hpp>

#include "../recurrence/example_policy.hpp"
#include "../contract/subject.hpp"

namespace contract {

// leaky_delta with maps that the engine may look into.
struct clear_leaky_delta : leaky_delta {
  template <class R>
  WEFT_HD static constexpr weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = weft::log_sigmoid(in.x)}; }
  template <class R>
  WEFT_HD static constexpr R write(const auto& in) { return in.beta * in.v; }
};

// Throws std::logic_error where the engine does not take the call.
template <class M>
void run_tensor_on_device(const M& mixer, int slice, index segments, const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out,
                          std::span<const index> cu);

}  // namespace contract
