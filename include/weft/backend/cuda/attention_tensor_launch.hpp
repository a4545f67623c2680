// Which calls the tensor cores take, and their launch.
#pragma once
#include "../../attention/extents.hpp"
#include "attention_tensor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class T, class Selector>
constexpr bool attention_tensor_types = (std::is_same_v<T, bf16> || std::is_same_v<T, fp16>) && !requires { Selector::per_query_head; };

// The cache as a tensor [N, slots, H, dim] of the copy engine; the call's own rows where it has no slots.
template <class T>
view<const T, 4> cached_view(const T* data, const attention_extents& x, index dim, const view<const T, 4>& otherwise) {
  const index slots = x.slots.slots;
  if (slots == 0) return otherwise;
  return {data, {x.sequences, slots, x.heads, dim}, {x.heads * slots * dim, dim, slots * dim, 1}};
}

// Whether this program has the kernel for the GPU, which nvcc leaves empty for others.
template <class T, class Selector, int D>
bool has_attention_tensor() {
  static const bool has = [] {
    cudaFuncAttributes a{};
    check_cuda(cudaFuncGetAttributes(&a, attention_tensor<T, Selector, D>), "cudaFuncGetAttributes of attention_tensor");
    return a.sharedSizeBytes > 0;
  }();
  return has;
}

// sm_90, and equal widths of 64 or 128. Not how the tensors lie: that changes no bit.
template <class T, class Selector>
bool attention_tensor_takes(const cuda& executor, const attention_job<T, Selector>& job, const attention_extents& x) {
  if (executor.capability() != 90 || job.cache.table || x.key_dim != x.value_dim || (x.key_dim != 64 && x.key_dim != 128)) return false;
  if (x.time >= index{1} << 31 || x.batch >= index{1} << 31 || x.slots.slots >= index{1} << 31 || x.query_heads >= index{1} << 31) return false;
  return x.key_dim == 64 ? has_attention_tensor<T, Selector, 64>() : has_attention_tensor<T, Selector, 128>();
}

inline index query_blocks(index tokens) { return (tokens + query_block::rows - 1) / query_block::rows; }

// `numbers`: one for each piece, and one more. The copy engine reaches the job's tensors.
template <class T, class Selector>
void run_attention_tensor(cuda& executor, const attention_job<T, Selector>& job, const attention_extents& x, index tokens, int* numbers) {
  const index a_head = query_blocks(tokens);
  const view<T, 4> o(static_cast<T*>(job.o), {x.batch, x.time, x.query_heads, x.value_dim}, job.o_stride);
  const bool maps_o = !job.wide && can_map(o);
  const bool pairs = reinterpret_cast<std::uintptr_t>(job.o) % 8 == 0 && job.o_stride[0] % 2 == 0 && job.o_stride[1] % 2 == 0 && job.o_stride[2] % 2 == 0;
  const attention_work work{a_head, x.sequences * x.query_heads * a_head, numbers, numbers + 1, pairs, maps_o};
  check_cuda(cudaMemsetAsync(numbers, 0, static_cast<std::size_t>(work.count + 1) * sizeof(int), executor.stream()), "cudaMemsetAsync");
  const index blocks = std::min<index>(work.count, executor.multiprocessors());
  const auto as_view = [&](const token_rows<const T>& r, index heads) {
    return view<const T, 4>(r.data, {x.batch, x.time, heads, x.key_dim}, {r.batch, r.time, r.head, 1});
  };
  const view<const T, 4> k = as_view(job.k, x.heads), v = as_view(job.v, x.heads);
  const auto map = [](const char* name, const view<const T, 4>& rows) { return map_rows(name, rows, query_block::rows); };
  const attention_maps maps{map("q", as_view(job.q, x.query_heads)), map("k", k), map("v", v), map("state.keys", cached_view<T>(job.cache.keys, x, x.key_dim, k)),
                            map("state.values", cached_view<T>(job.cache.values, x, x.value_dim, v)),
                            maps_o ? map_rows("o", o, 64) : CUtensorMap{}};
  const auto start = [&](auto kernel, auto stages) {
    launch("attention_tensor", kernel, blocks, stages.threads, static_cast<std::size_t>(stages.bytes), executor.stream(), job, maps, work);
  };
  if (x.key_dim == 64) start(attention_tensor<T, Selector, 64>, attention_stages<64>{});
  else start(attention_tensor<T, Selector, 128>, attention_stages<128>{});
  launch("attention_rows", attention_rows<T, Selector>, blocks, attention_tile<T>::threads, 0, executor.stream(), job,
         row_blocks{.tiles = a_head, .count = work.count, .again = work.again});
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
