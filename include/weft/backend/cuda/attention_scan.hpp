// scan and step of attention on the executor `cuda`: shapes are checked as on the CPU, then kernels are launched.
#pragma once
#include <algorithm>
#include <numeric>

#include "../../attention/check.hpp"
#include "attention_append.hpp"
#include "attention_decode.hpp"
#include "attention_lists.hpp"
#include "attention_rows.hpp"
#include "attention_tensor_launch.hpp"
#include "copy_rows.hpp"
#include "sequences.hpp"

namespace weft {
inline namespace v1 {

// Selectors whose answer needs nothing but numbers: of positions, or a caller's lists.
template <class S>
concept device_selector = key_selector<S> || std::same_as<S, block_lists>;

}  // namespace v1

inline namespace WEFT_ISA {
namespace device {

inline constexpr index split_keys = 512;  // of a decode step; fixed, so that the batch does not change a result

template <class T, class Selector>
attention_job<T, selector_on_device<Selector>> job_of(const attention<T, Selector>& mixer, const attention_extents& x, const typename attention<T, Selector>::inputs& in,
                                                      const cached_rows<T>& cache, const typename attention<T, Selector>::outputs& out) {
  using R = accumulate_t<T>;
  attention_job<T, selector_on_device<Selector>> job;
  job.q = {in.q.data, in.q.stride};
  job.k = {in.k.data, in.k.stride};
  job.v = {in.v.data, in.v.stride};
  job.sink = in.sink.data;
  job.sink_stride = in.sink.stride[0];
  job.o = out.o.data;
  job.wide = out.o.wide;
  job.o_stride = out.o.stride;
  job.lse = {out.lse.data, out.lse.stride};
  job.cache = cache;
  job.time = x.time;
  job.sequences = x.sequences;
  job.heads = static_cast<int>(x.heads);
  job.query_heads = static_cast<int>(x.query_heads);
  job.key_dim = static_cast<int>(x.key_dim);
  job.value_dim = static_cast<int>(x.value_dim);
  job.scale = static_cast<R>(mixer.scale_for(x.key_dim));
  job.softcap = static_cast<R>(mixer.softcap);
  job.causal = mixer.causal;
  return job;
}

// What the kernels find in the executor's workspace.
struct call_needs {
  bool q = false, k = false, v = false;  // copies of inputs: the output overwrites them, or a kernel cannot reach them where they lie
  bool parts = false;                    // room for results to merge
  index numbers = 0;                     // of the tensor cores' kernel
};

template <class T, class Selector>
int* place_in_workspace(cuda& executor, attention_job<T, Selector>& job, const attention_extents& x, const call_needs& needs, std::span<const index> cu) {
  using R = accumulate_t<T>;
  int* numbers = nullptr;
  const token_rows<const T> inputs[] = {job.q, job.k, job.v};
  const auto place = [&](arena& room, bool there) {
    numbers = room.take<int>(needs.numbers);
    if (!cu.empty()) {
      index* const to = room.take<index>(static_cast<index>(cu.size()));
      if (there) upload_offsets(executor, cu, to);
      job.offsets = to;
    }
    const auto copy = [&](bool wanted, const token_rows<const T>& from, index heads, index dim, token_rows<const T>& rows) {
      if (!wanted) return;
      const std::array<index, 4> extents{x.batch, x.time, heads, dim};
      T* const to = room.take<T>(x.batch * x.time * heads * dim);
      if (there) copy_rows(executor, view<const T, 4>(from.data, extents, {from.batch, from.time, from.head, 1}), to);
      rows = {to, view<const T, 4>(to, extents).stride};
    };
    copy(needs.q, inputs[0], x.query_heads, x.key_dim, job.q);
    copy(needs.k, inputs[1], x.heads, x.key_dim, job.k);
    copy(needs.v, inputs[2], x.heads, x.value_dim, job.v);
    if (needs.parts) {
      const index rows = x.sequences * x.query_heads;
      job.partial = room.take<R>(rows * job.splits * x.value_dim);
      job.sums = room.take<R>(2 * rows * job.splits);
    }
  };
  arena count;
  place(count, false);
  arena room(executor.workspace(count.used()));
  place(room, true);
  return numbers;
}

// Tokens of the longest sequence.
inline index longest(const attention_extents& x, std::span<const index> cu) {
  if (cu.empty()) return x.time;
  index most = 0;
  for (index n = 0; n < x.sequences; ++n) most = std::max(most, tokens_of(x, cu, n).count());
  return most;
}

template <class T, class Selector>
void run_rows(cuda& executor, const attention_job<T, Selector>& job, index tokens) {
  using tile = attention_tile<T>;
  const int slices = std::max(1, (job.value_dim + tile::columns - 1) / tile::columns);
  int rows = tile::rows;
  if constexpr (requires { job.select.share(0); }) rows = job.select.share(job.group());
  const index tiles = (tokens * job.group() + rows - 1) / rows, count = job.sequences * job.heads * tiles * slices * job.splits;
  launch("attention_rows", attention_rows<T, Selector>, count, tile::threads, 0, executor.stream(), job, row_blocks{rows, slices, tiles, count});
  if (job.splits > 1) launch("attention_merge", attention_merge<T, Selector>, job.sequences * job.query_heads, 128, 0, executor.stream(), job);
}

template <class T, class Selector, class Cache>
void run_attention(cuda& executor, const attention<T, Selector>& mixer, const attention_extents& x, const typename attention<T, Selector>::inputs& in, Cache& state,
                   const cached_rows<T>& cache, const typename attention<T, Selector>::outputs& out, std::span<const index> cu, bool step) {
  if (x.sequences == 0 || x.time == 0) return;
  auto job = job_of(mixer, x, in, cache, out);
  if (step) {
    job.segment = split_keys;
    const index most = cache.slots.slots + (cache.slots.ring ? x.time : 0);
    job.splits = static_cast<int>(std::max<index>(1, (most + split_keys - 1) / split_keys));
  }
  const index tokens = longest(x, cu);
  call_needs needs{.q = x.output_is_query, .v = x.output_is_value, .parts = job.splits > 1};
  bool tensor = false, decode = false;
  if constexpr (attention_tensor_types<T, selector_on_device<Selector>>) {
    tensor = !step && x.query_heads > 0 && tokens > 1 && attention_tensor_takes(executor, job, x);
    decode = step && x.query_heads > 0 && x.key_dim == x.value_dim && (x.key_dim == 64 || x.key_dim == 128);
    if (tensor) {
      needs.q |= !can_map(in.q), needs.k |= !can_map(in.k), needs.v |= !can_map(in.v);
      needs.numbers = x.sequences * x.query_heads * query_blocks(tokens) + 1;
    }
    if (decode) needs.parts = true, needs.q |= !goes_by(4, job.q, x.key_dim), needs.k |= !goes_by(16, job.k, x.key_dim), needs.v |= !goes_by(16, job.v, x.value_dim);
  }
  int* const numbers = place_in_workspace(executor, job, x, needs, cu);
  if constexpr (std::same_as<Selector, block_lists>) job.select = {mixer.select, x.time, x.query_heads, cache.length, job.offsets};
  else job.select = mixer.select;
  if constexpr (attention_tensor_types<T, selector_on_device<Selector>>) {
    if (tensor) run_attention_tensor(executor, job, x, tokens, numbers);
    if (decode) run_attention_decode(executor, job);
  }
  if (!tensor && !decode && x.query_heads > 0) run_rows(executor, job, tokens);
  append_tokens(executor, job);
  if (state.known.holds(state.length))
    for (index n = 0; n < x.sequences; ++n) state.known.held[static_cast<std::size_t>(n)] += tokens_of(x, cu, n).count();
}

template <class T>
cached_rows<T> rows_of(key_value_cache<T, device_array>& cache, const attention_extents& x) {
  return {.keys = cache.keys.data(), .values = cache.values.data(), .length = cache.length.data(), .slots = x.slots};
}

}  // namespace device

template <class T, device_selector Selector>
void run_scan(cuda& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, key_value_cache<T, device_array>& cache,
              const typename attention<T, Selector>::outputs& out, std::span<const index> cu) {
  const attention_extents x = check_attention(mixer, in, cache, out, cu);
  device::run_attention(executor, mixer, x, in, cache, device::rows_of(cache, x), out, cu, false);
}

// The keys are split over blocks, and what each finds is merged.
template <class T, device_selector Selector>
void run_step(cuda& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, key_value_cache<T, device_array>& cache,
              const typename attention<T, Selector>::outputs& out) {
  const attention_extents x = check_attention(mixer, in, cache, out, {});
  require(x.time == 1 || x.batch == 0, errc::shape, "step: expected inputs of one token (time 1), got ", x.time);
  device::run_attention(executor, mixer, x, in, cache, device::rows_of(cache, x), out, {}, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
