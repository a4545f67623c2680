// core, math and every policy are host and device code: nvcc compiles a step of each into a kernel. Nothing is run.
#include <weft/core/check.hpp>
#include <weft/core/executor.hpp>
#include <weft/core/state.hpp>
#include <weft/core/verbs.hpp>
#include <weft/math/functions.hpp>
#include <weft/recurrence/all.hpp>

// Not in the library: a policy of a user.
struct leaky_delta {
  template <class Rep>
  struct inputs {
    weft::key<Rep> q, k;
    weft::value<Rep> v;
    weft::gate<Rep> x, beta;
  };
  static constexpr weft::axes axes{.decay = weft::decay::per_token, .erase = weft::erase::tied};
  template <class R>
  WEFT_HD static weft::key_terms<R> key_side(const auto& in) { return {.q = in.q, .k = in.k, .c = in.beta * in.k, .g = weft::log_sigmoid(in.x)}; }
  template <class R>
  WEFT_HD static R write(const auto& in) { return in.beta * in.v; }
};

// What one thread makes of the numbers of one token: every function of the policy that the engine calls.
template <class Policy, class R>
__global__ void terms(Policy policy, const weft::lanes_of<Policy, R>* in, weft::key_terms<R>* side, R* z, R* o) {
  weft::lanes_of<Policy, R> lane = in[threadIdx.x];
  if constexpr (weft::has_activate<Policy>) policy.template activate<R>(lane);
  side[threadIdx.x] = policy.template key_side<R>(lane);
  z[threadIdx.x] = policy.template write<R>(lane);
  if constexpr (weft::has_output<Policy>) o[threadIdx.x] = policy.template output<R>(lane, o[threadIdx.x]);
}

// Views of memory, read on the device.
__global__ void element(weft::view<const weft::bf16, 4> x, weft::view<float, 3> y) {
  y(0, 0, threadIdx.x) = static_cast<float>(x.slice(1, 1, 1)(0, 0, 0, threadIdx.x));
}

template <class... Policies>
void instantiate() {
  (static_cast<void>(&terms<Policies, float>), ...);
  (static_cast<void>(&terms<Policies, double>), ...);
}
void all() {
  static_cast<void>(&element);
  instantiate<leaky_delta, weft::linear_attention_policy<false>, weft::linear_attention_policy<true>, WEFT_TEST_POLICIES>();  // from check.sh: all of the library
}
