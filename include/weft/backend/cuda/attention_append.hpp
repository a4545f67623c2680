// The end of a call on attention: its tokens go into the cache, and the lengths grow.
#pragma once
#include "attention_job.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

struct unit_16 {
  alignas(16) unsigned char bytes[16];
};

// A thread a unit of a row: 16 bytes of keys and of values, or a number. What later queries cannot read is not written.
// With one block a sequence the lengths grow here too.
template <class Unit, class T, class Selector>
__global__ void attention_append(const __grid_constant__ attention_job<T, Selector> job, int blocks, int tokens) {
  constexpr int size = sizeof(Unit) / sizeof(T);
  const index n = blockIdx.x / blocks, first = blockIdx.x % blocks * tokens;
  const call_sequence s = job.sequence(n);
  const auto& slots = job.cache.slots;
  const int here = static_cast<int>(::max(index{0}, ::min(index{tokens}, s.count - first))), units = ::max(job.key_dim, job.value_dim) / size;
  const index oldest = s.keys() - slots.around();
  if (s.fits)
    for (int i = static_cast<int>(threadIdx.x); i < here * job.heads * units; i += static_cast<int>(blockDim.x)) {
      const int row = i / units, unit = i % units * size, h = row % job.heads;
      const index t = first + row / job.heads, p = s.held + t;
      if (p >= slots.kept && p < oldest) continue;
      const index to = job.cache.row(n, job.heads, h, p);
      if (to < 0) continue;
      const auto at = [](auto* x) { return reinterpret_cast<std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(x)>>, const Unit, Unit>*>(x); };
      if (unit < job.key_dim) *at(job.cache.keys + to * job.key_dim + unit) = *at(job.k.at(s.batch, s.begin + t, h) + unit);
      if (unit < job.value_dim) *at(job.cache.values + to * job.value_dim + unit) = *at(job.v.at(s.batch, s.begin + t, h) + unit);
    }
  if (blocks > 1) return;
  __syncthreads();
  if (threadIdx.x == 0 && s.fits) job.cache.length[n] += s.count;
}

template <class T, class Selector>
__global__ void attention_lengths(const __grid_constant__ attention_job<T, Selector> job) {
  const index n = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= job.sequences) return;
  const call_sequence s = job.sequence(n);
  if (s.fits) job.cache.length[n] += s.count;
}

// Whether rows go by so many bytes.
template <class T>
bool goes_by(index bytes, const token_rows<const T>& rows, index dim) {
  const auto whole = [&](index x) { return x * static_cast<index>(sizeof(T)) % bytes == 0; };
  return reinterpret_cast<std::uintptr_t>(rows.data) % static_cast<std::uintptr_t>(bytes) == 0 && whole(dim) && whole(rows.batch) && whole(rows.time) && whole(rows.head);
}

template <class T, class Selector>
void append_tokens(cuda& executor, const attention_job<T, Selector>& job) {
  const int tokens = job.time <= 32 ? 32 : 8;
  const index blocks = std::max<index>(1, (job.time + tokens - 1) / tokens);
  const auto start = [&](auto kernel) { launch("attention_append", kernel, job.sequences * blocks, 256, 0, executor.stream(), job, static_cast<int>(blocks), tokens); };
  if (goes_by(16, job.k, job.key_dim) && goes_by(16, job.v, job.value_dim)) start(attention_append<unit_16, T, Selector>);
  else start(attention_append<T, T, Selector>);
  if (blocks > 1) launch("attention_lengths", attention_lengths<T, Selector>, (job.sequences + 127) / 128, 128, 0, executor.stream(), job);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
