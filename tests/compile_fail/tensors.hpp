// One small call of the gated delta rule, for the pairs to spoil.
#pragma once
#include <weft/core/executor.hpp>
#include <weft/core/verbs.hpp>
#include <weft/recurrence/delta_rule.hpp>

// Stands for the engine, which costs seconds to compile and is not asked for here.
namespace weft {
inline namespace WEFT_ISA {
template <class P, class T, class S>
void run_scan(cpu&, const recurrence<P, T, S>&, const inputs_of<P, T>&, recurrent_state<S>&, const typename recurrence<P, T, S>::outputs&,
              std::span<const index>) {}
}  // namespace WEFT_ISA
}  // namespace weft

struct tensors {
  weft::array<float, 4> q{{1, 2, 1, 4}}, v{{1, 2, 1, 4}}, o{{1, 2, 1, 4}};
  weft::array<float, 3> g{{1, 2, 1}};
  weft::gated_delta_rule<float> mixer;
  weft::recurrent_state<float> state = mixer.state({.batch = 1, .heads = 1, .key_dim = 4, .value_dim = 4});
  weft::gated_delta_rule<float>::inputs in{.q = q, .k = q, .v = v, .g = g, .beta = g};
  weft::cpu cpu;
};
