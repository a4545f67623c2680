// A decode step of attention at the speed of memory: widths of 64 and 128 in 16 bits, up to 16 query heads of a key head at once, on the
// tensor cores of sm_80 and later. A block has a segment of the keys; each of its warps takes every fourth tile of 16 by itself,
// with the next ones on their way. All rows read the same keys, and what they do not read comes as zeros.
#pragma once
#include "attention_rows.hpp"
#include "copies.hpp"
#include "runtime.hpp"
#include "tile.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <int D>
struct decode_ring {
  static constexpr int rows = 16, keys = 16, warps = 4, stages = D == 64 ? 4 : 3, tile = keys * D * 2;
  static constexpr int of_warp = stages * 2 * tile, bytes = warps * of_warp, threads = 32 * warps;
  static_assert(of_warp >= rows * D * 4, "the sums of a warp lie in its ring at the end");
};

template <class T, class Selector, int D>
class decode_warp {
  using ring = decode_ring<D>;
  static constexpr float log2e = 1.4426950408889634f;
  static constexpr int units = D / 8, rows_a_copy = 32 / units;

 public:
  __device__ decode_warp(const attention_job<T, Selector>& job, const call_sequence& seq, int key_head, int head, int rows, unsigned char* memory)
      : job_(job), seq_(seq), key_head_(key_head), lane_(ptx::lane()), base_(ptx::shared_address(memory)), lanes_(lane_parts::swizzled(lane_)),
        plain_(job.softcap == 0 && job.scale > 0), factor_(plain_ ? job.scale * log2e : log2e) {
    for (int i = 0; i < D / 16; ++i)
      for (int w = 0; w < 4; ++w) {
        const int r = lane_ / 4 + 8 * (w % 2);
        q_[i].w[w] = r < rows ? *reinterpret_cast<const word*>(job.q.at(seq.batch, seq.begin, head + r) + 16 * i + 8 * (w / 2) + lane_ % 4 * 2) : 0;
      }
    for (block& b : o_) b = {};
  }

  // Tiles first, first + 4, ... of a list.
  __device__ void run(const range_list& list, int first) {
    int total = 0;
    for (int i = 0; i < list.count; ++i) total += tiles_of(list.at[i]);
    int asked = first;
    for (int s = 0; s < ring::stages - 1; ++s, asked += ring::warps) ask(list, asked, total, s);
    int stage = 0;
    for (int t = first; t < total; t += ring::warps, asked += ring::warps) {
      ptx::copies_wait<ring::stages - 2>();
      __syncwarp();
      fold(stage);
      __syncwarp();
      ask(list, asked, total, stage == 0 ? ring::stages - 1 : stage - 1);
      stage = stage == ring::stages - 1 ? 0 : stage + 1;
    }
    ptx::copies_wait<0>();
    __syncwarp();
  }

  // To shared memory: [row][column] sums, and a row's maximum and sum.
  __device__ void put(float* sums, float* m, float* l) {
    for (int r = 0; r < 2; ++r) {
      float x = l_[r];
      x += __shfl_xor_sync(0xffffffffu, x, 1);
      x += __shfl_xor_sync(0xffffffffu, x, 2);
      const int row = lane_ / 4 + 8 * r;
      if (lane_ % 4 == 0) m[row] = m_[r], l[row] = x;
      for (int i = 0; i < D / 16; ++i)
        for (int h = 0; h < 2; ++h)
          *reinterpret_cast<float2*>(sums + row * D + 16 * i + 8 * h + lane_ % 4 * 2) = {o_[i].half[h][2 * r], o_[i].half[h][2 * r + 1]};
    }
  }

 private:
  static __device__ int tiles_of(const range_list::piece& p) { return static_cast<int>((p.end - p.begin + ring::keys - 1) / ring::keys); }
  __device__ swizzled_tile tile(int stage, bool values) const {
    return {base_ + static_cast<word>((2 * stage + values) * ring::tile), ring::keys, lanes_};
  }

  // Starts the copies of a tile, if it is there, and ends their group. A lane finds the rows of one key.
  __device__ void ask(const range_list& list, int number, int total, int stage) {
    word there = 0;
    if (number < total) {
      int i = 0;
      for (; number >= tiles_of(list.at[i]); ++i) number -= tiles_of(list.at[i]);
      const index position = list.at[i].begin + number * ring::keys + lane_ % 16;
      const T *k = nullptr, *v = nullptr;
      if (position < list.at[i].end) k = job_.key(seq_, key_head_, position), v = job_.value(seq_, key_head_, position);
      there = __ballot_sync(0xffffffffu, k != nullptr);
      const swizzled_tile keys = tile(stage, false), values = tile(stage, true);
#pragma unroll
      for (int c = 0; c < ring::keys / rows_a_copy; ++c) {
        const int row = c * rows_a_copy + lane_ / units, unit = lane_ % units;
        const auto from = [&](const T* p) { return reinterpret_cast<const T*>(__shfl_sync(0xffffffffu, reinterpret_cast<unsigned long long>(p), row)) + 8 * unit; };
        const bool is = there >> row & 1;
        ptx::copy_unit(keys.unit(row, unit), from(k), is);
        ptx::copy_unit(values.unit(row, unit), from(v), is);
      }
    }
    ptx::copies_end();
    there_ = (there_ & ~(std::uint64_t{0xffff} << (16 * stage))) | std::uint64_t{there & 0xffff} << (16 * stage);
  }

  __device__ void fold(int stage) {
    const swizzled_tile keys = tile(stage, false), values = tile(stage, true);
    block s{};
#pragma unroll
    for (int i = 0; i < D / 16; ++i) s.add_product<T>(q_[i], right(keys, 0, 16 * i));
    const word read = static_cast<word>(there_ >> (16 * stage)) >> (lane_ % 4 * 2);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = -INFINITY;
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s.half[h][2 * r + e];
          if (!plain_) x = job_.capped(job_.scale * x);
          if (!(read >> (8 * h + e) & 1)) x = -INFINITY;
          top = fmaxf(top, x);
        }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float m = fmaxf(m_[r], top * factor_), safe = m == -INFINITY ? 0.f : m, left = ptx::exp2(m_[r] - safe);
      m_[r] = m;
      float sum = 0;
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) sum += s.half[h][2 * r + e] = ptx::exp2(fmaf(s.half[h][2 * r + e], factor_, -safe));
      l_[r] = l_[r] * left + sum;
#pragma unroll
      for (block& b : o_)
        for (int h = 0; h < 2; ++h) b.half[h][2 * r] *= left, b.half[h][2 * r + 1] *= left;
    }
    const fragment p = s.as_left<T>();
#pragma unroll
    for (int i = 0; i < D / 16; ++i) o_[i].template add_product<T>(p, right_turned(values, 0, 16 * i));
  }

  const attention_job<T, Selector>& job_;
  const call_sequence& seq_;
  const int key_head_, lane_;
  const word base_;
  const lane_parts lanes_;
  const bool plain_;
  const float factor_;
  fragment q_[D / 16];
  block o_[D / 16];
  float m_[2] = {-INFINITY, -INFINITY}, l_[2] = {0, 0};
  std::uint64_t there_ = 0;  // 16 bits a stage: which of its keys are read
};

// `tiles` of 16 query heads a key head. What a block finds is merged by attention_merge.
template <class T, class Selector, int D>
__global__ void __launch_bounds__(decode_ring<D>::threads) attention_decode(const __grid_constant__ attention_job<T, Selector> job, int tiles) {
  using ring = decode_ring<D>;
  extern __shared__ __align__(1024) unsigned char tensor_memory[];
  __shared__ range_list list;
  __shared__ float m[ring::warps][ring::rows], l[ring::warps][ring::rows];
  index i = blockIdx.x;
  const int split = static_cast<int>(i % job.splits);
  i /= job.splits;
  const int first = static_cast<int>(i % tiles) * ring::rows;
  i /= tiles;
  const int key_head = static_cast<int>(i % job.heads), head = key_head * job.group() + first;
  const int rows = ::min(ring::rows, job.group() - first), warp = static_cast<int>(threadIdx.x / 32);
  const call_sequence seq = job.sequence(i / job.heads);
  unsigned char* const memory = tensor_memory + (1024 - ptx::shared_address(tensor_memory) % 1024) % 1024 + warp * ring::of_warp;
  const query_span all{seq.n, key_head, seq.held, seq.held + 1, seq.keys(), head, 1};
  decode_warp<T, Selector, D> own(job, seq, key_head, head, rows, memory);
  for (int skip = 0;; skip += range_list::most) {
    __syncthreads();
    if (threadIdx.x == 0) list.collect(job.select, all, seq.keys(), skip, split * job.segment, (split + 1) * job.segment, [](index) { return every_key; });
    __syncthreads();
    own.run(list, warp);
    if (list.count < range_list::most) break;
  }
  own.put(reinterpret_cast<float*>(memory), m[warp], l[warp]);
  __syncthreads();
  const index row0 = (seq.n * job.query_heads + head) * job.splits + split;
  for (int at = static_cast<int>(threadIdx.x); at < rows * D; at += ring::threads) {
    const int r = at / D;
    float top = -INFINITY, x = 0, sum = 0;
    for (int w = 0; w < ring::warps; ++w) top = fmaxf(top, m[w][r]);
    const float safe = top == -INFINITY ? 0.f : top;
    for (int w = 0; w < ring::warps; ++w) {
      const float left = ptx::exp2(m[w][r] - safe);
      x += left * reinterpret_cast<const float*>(memory - warp * ring::of_warp + w * ring::of_warp)[at];
      sum += left * l[w][r];
    }
    job.partial[(row0 + r * job.splits) * D + at % D] = x;
    if (at % D == 0) job.sums[2 * (row0 + r * job.splits)] = top * 0.6931471805599453f, job.sums[2 * (row0 + r * job.splits) + 1] = seq.fits ? sum : NAN;
  }
}

// Rows of the job's k and v go by 16 bytes, those of q by 4.
template <class T, class Selector>
void run_attention_decode(cuda& executor, const attention_job<T, Selector>& job) {
  const int tiles = (job.group() + 15) / 16;
  const index blocks = job.sequences * job.heads * tiles * job.splits;
  const auto start = [&](auto kernel, auto ring) {
    launch("attention_decode", kernel, blocks, ring.threads, static_cast<std::size_t>(ring.bytes) + 1024, executor.stream(), job, tiles);
  };
  if (job.key_dim == 64) start(attention_decode<T, Selector, 64>, decode_ring<64>{});
  else start(attention_decode<T, Selector, 128>, decode_ring<128>{});
  launch("attention_merge", attention_merge<T, Selector>, job.sequences * job.query_heads, 128, 0, executor.stream(), job);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
