// What a policy sees on the device: the numbers of one token of one head, read from memory by role. The only code of the
// CUDA engines that reads a policy's inputs.
#pragma once
#include "../../math/functions.hpp"
#include "../../recurrence/check.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class R>
struct extents {
  index time = 0;  // tokens of a row of the batch
  int value_heads = 0, group = 1, key_dim = 0, value_dim = 0, micro = 1;
  R scale{}, l2norm_eps{};
  bool unit = false;
};

template <class R>
extents<R> extents_of(const recurrence_extents& x, const auto& mixer) {
  return {.time = x.time,
          .value_heads = static_cast<int>(x.value_heads),
          .group = static_cast<int>(x.heads > 0 ? x.value_heads / x.heads : 1),
          .key_dim = static_cast<int>(x.key_dim),
          .value_dim = static_cast<int>(x.value_dim),
          .micro = x.micro,
          .scale = static_cast<R>(mixer.scale_for(x.key_dim)),
          .l2norm_eps = static_cast<R>(mixer.l2norm_eps),
          .unit = mixer.qk_l2norm};
}

// Where the inputs of one row (a token, or a micro-step) of one head begin; null where an optional one is absent.
template <class P, class T>
struct row {
  using R = accumulate_t<T>;
  template <std::size_t I>
  static constexpr role role_at = role_of<P, I, T>;
  template <std::size_t I>
  static constexpr bool is_unit = is_unit_key<P>(I);

  lanes_of<P, const void*> begin;

  __device__ row(const inputs_of<P, T>& in, const extents<R>& x, index b, index r, int head) {
    auto pointers = tie_members(begin);
    for_each_member(in, [&](const auto& v, auto i) {
      constexpr role what = role_at<i>;
      const int h = what.heads == per_head::key ? head / x.group : head;
      const auto* p = v.data;
      if constexpr (what.time) p += b * v.stride[0] + (P::axes.micro_steps && !what.micro ? r / x.micro : r) * v.stride[1] + h * v.stride[2];
      else p += h * v.stride[0];
      std::get<i>(pointers) = v.data ? p : nullptr;
    });
  }

  template <std::size_t I>
  __device__ R number(int i) const {
    using element = std::conditional_t<role_at<I>.wide, R, T>;
    const auto* p = static_cast<const element*>(std::get<I>(tie_members(begin)));
    return p ? static_cast<R>(p[i]) : R(0);
  }

  // The gates and constants of the head; other members read as 0.
  __device__ lanes_of<P, R> raw_gates() const {
    lanes_of<P, R> lane{};
    for_each_member(lane, [&](R& x, auto i) {
      if constexpr (role_at<i>.width == width::one) x = number<i>(0);
    });
    return lane;
  }
  __device__ lanes_of<P, R> gates(const P& policy) const { return activated(policy, raw_gates()); }
  static __device__ lanes_of<P, R> activated(const P& policy, lanes_of<P, R> lane) {
    if constexpr (has_activate<P>) {
      policy.template activate<R>(lane);
      for_each_member(lane, [&](R& x, auto i) {
        if constexpr (role_at<i>.width != width::one) x = R(0);
      });
    }
    return lane;
  }

  // The gates, and the members of one width at channel i.
  template <width Width>
  __device__ lanes_of<P, R> lanes(const lanes_of<P, R>& gates, int i) const {
    lanes_of<P, R> lane = gates;
    for_each_member(lane, [&](R& x, auto m) {
      if constexpr (role_at<m>.width == Width) x = number<m>(i);
    });
    return lane;
  }

  // 1 / length of every unit key; a warp works together.
  __device__ void inverse_lengths(const extents<R>& x, R (&inverse)[input_count<P>]) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    for_each_member(begin, [&](const void* p, auto m) {
      inverse[m] = R(1);
      if constexpr (is_unit<m>) {
        if (!x.unit || !p) return;
        R sum = 0;
        for (int i = lane; i < x.key_dim; i += 32) {
          const R e = number<m>(i);
          sum += e * e;
        }
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
        inverse[m] = R(1) / sqrt(sum + x.l2norm_eps);
      }
    });
  }
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
