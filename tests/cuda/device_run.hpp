// One call of the contract suite on the device: compiled by nvcc, called from files that it does not compile.
#pragma once
#include <weft/recurrence/recurrence.hpp>

#include "../contract/subject.hpp"

namespace contract {

// scan or step of a call whose views and state are host memory: all is brought to the device as it lies (strides, gaps,
// overlaps), and back.
template <class M>
void run_on_device(verb v, const M& mixer, const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out,
                   std::span<const index> cu);

}  // namespace contract
