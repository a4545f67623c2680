// The engines of the recurrences, compiled once for the tests and the examples, which share this header precompiled: they were a
// third of what each of their files took. One policy stands for all of its axes.
#pragma once
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/backend/cpu/recurrence_vjp.hpp>
#include <weft/recurrence/all.hpp>

#define WEFT_ENGINE(TEMPLATE, R, ...)                                                                                                    \
  TEMPLATE void weft::scan_chunks<weft::__VA_ARGS__::axes, R>(weft::cpu&, const weft::scan_job<R>&);                                     \
  TEMPLATE void weft::vjp_chunks<weft::__VA_ARGS__::axes, R>(weft::cpu&, const weft::vjp_job<R>&);                                       \
  TEMPLATE void weft::step_tokens<weft::__VA_ARGS__::axes, R, R>(weft::cpu&, const weft::token_source<R>&, const weft::recurrence_extents&, \
                                                                 weft::recurrent_state<R>&, R, weft::index);

#define WEFT_ENGINES(TEMPLATE, R)                          \
  WEFT_ENGINE(TEMPLATE, R, linear_attention_policy<false>) \
  WEFT_ENGINE(TEMPLATE, R, linear_attention_policy<true>)  \
  WEFT_ENGINE(TEMPLATE, R, retention_policy)               \
  WEFT_ENGINE(TEMPLATE, R, simple_gla_policy)              \
  WEFT_ENGINE(TEMPLATE, R, gla_policy)                     \
  WEFT_ENGINE(TEMPLATE, R, rwkv6_policy)                   \
  WEFT_ENGINE(TEMPLATE, R, delta_policy)                   \
  WEFT_ENGINE(TEMPLATE, R, gated_delta_policy)             \
  WEFT_ENGINE(TEMPLATE, R, kda_policy)                     \
  WEFT_ENGINE(TEMPLATE, R, comba_policy)                   \
  WEFT_ENGINE(TEMPLATE, R, dplr_policy)                    \
  WEFT_ENGINE(TEMPLATE, R, gated_delta_product_policy)

WEFT_ENGINES(extern template, float)
WEFT_ENGINES(extern template, double)
