// Prefill of attention on Hopper's tensor cores: widths of 64 and 128 in 16 bits, every selector of ranges.
//
// A block takes one piece of work after the other: 128 tokens of a query head. Two groups of four warps have 64 rows each; a thread asks the
// copy engine for tiles of 128 keys and values, some ahead, and on into the next piece. Scores and weights stay in registers; while the
// weights of one tile become results, the scores of the next are weighed. A product takes a weight of zero times a value that a row
// does not read for 0, unless the value is none: pieces whose result has a NaN are told, and computed again by the portable kernel.
#pragma once
#include "attention_rows.hpp"
#include "tensor_map.hpp"
#include "tile.hpp"
#include "wgmma.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// The tokens of a piece; those of the last keys come first, heads one after the other, so that a head's keys stay in the cache.
struct query_block {
  static constexpr int rows = row_blocks::tokens_again;
  index n, first;
  int head;

  template <class Job>
  static __device__ query_block of(const Job& job, index number, index blocks_a_head) {
    return {number / blocks_a_head / job.query_heads, (blocks_a_head - 1 - number % blocks_a_head) * rows, static_cast<int>(number / blocks_a_head % job.query_heads)};
  }
};

// How pieces are handed out, and which of them are to be computed again; zeros before the launch.
struct attention_work {
  index blocks_a_head = 0, count = 0;
  int* next = nullptr;
  int* again = nullptr;  // [count]
  bool pairs = true;     // the output's numbers go two by two
  bool maps_o = false;   // and the copy engine reaches it
};

struct attention_maps {
  CUtensorMap q, k, v, cached_k, cached_v, o;
};

template <int D>
struct attention_stages {
  static constexpr int keys = 128, count = D == 64 ? 4 : 2, panel = keys * 128, tile = keys * D * 2, panels = D / 64;
  static constexpr int bytes = (2 + 2 * count) * tile + 1024;  // queries, keys, values, results
  static constexpr int threads = 3 * 128;  // the loader has four warps, of which one works: registers are shared by fours

  // Of a piece, or of a part of one that has many ranges of keys.
  struct entry {
    range_list list;
    index number;  // of the piece; below 0: no more
    bool first, last;
    query_block block;
    call_sequence sequence;
  };
  struct shared {
    std::uint64_t q, q_free, k[count], v[count], k_free[count], v_free[count], entry_full[2], entry_free[2];
    entry entries[2];

    __device__ void init() {
      const auto expect = [](std::uint64_t& barrier, int arrivals) { ptx::barrier_init(ptx::shared_address(&barrier), arrivals); };
      expect(q, 1), expect(q_free, 8);
      for (int s = 0; s < count; ++s) expect(k[s], 1), expect(v[s], 1), expect(k_free[s], 8), expect(v_free[s], 8);
      for (int s = 0; s < 2; ++s) expect(entry_full[s], 1), expect(entry_free[s], 8);
      ptx::barrier_init_done();
    }
  };
  static __device__ word k_tile(word base, int s) { return base + static_cast<word>((1 + s) * tile); }
  static __device__ word v_tile(word base, int s) { return base + static_cast<word>((1 + count + s) * tile); }
  static __device__ word o_tile(word base) { return base + static_cast<word>((1 + 2 * count) * tile); }
};

// Walks the tiles of a list.
struct key_tiles {
  const range_list& list;
  int range = 0;
  index at;

  __device__ explicit key_tiles(const range_list& l) : list(l), at(l.count > 0 ? l.at[0].begin : 0) {}
  __device__ bool left() const { return range < list.count; }
  __device__ int count() const {
    const index n = list.at[range].end - at;
    return n < 128 ? static_cast<int>(n) : 128;
  }
  __device__ void next() {
    at += 128;
    if (at >= list.at[range].end && ++range < list.count) at = list.at[range].begin;
  }
};

// A place in a ring, and how often the ring was gone round.
template <int Count>
struct ring_place {
  int stage = 0;
  word phase = 0;

  __device__ void next() {
    if (++stage == Count) stage = 0, phase ^= 1;
  }
};

// The thread that asks. A ring's places are free at first: waiting for the phase before the first one returns at once.
template <class T, class Selector, int D>
class key_loader {
  using stages = attention_stages<D>;

 public:
  __device__ key_loader(const attention_job<T, Selector>& job, const attention_maps& maps, const attention_work& work, word base, typename stages::shared& s)
      : job_(job), maps_(maps), work_(work), base_(base), s_(s) {}

  __device__ void run() {
    for (index number = blockIdx.x; number < work_.count; number = atomicAdd(work_.next, 1) + static_cast<index>(gridDim.x)) load_piece(number);
    auto& end = next_entry();
    end.number = -1;
    publish();
  }

 private:
  __device__ void load_piece(index number) {
    const query_block block = query_block::of(job_, number, work_.blocks_a_head);
    const call_sequence seq = job_.sequence(block.n);
    if (block.first >= seq.count) return;
    const index rows = seq.count - block.first < query_block::rows ? seq.count - block.first : query_block::rows;
    const index p = seq.held + block.first, limit = job_.causal ? p + rows : seq.keys();
    const query_span all{block.n, block.head / job_.group(), p, p + rows, seq.keys(), block.head, 1};
    const auto cut = [&](index position) {  // where rows no longer follow each other
      if (position >= seq.held) return every_key;
      const auto& slots = job_.cache.slots;
      const index end = position < slots.kept ? slots.kept : position + slots.slots - slots.slot(position);
      return end < seq.held ? end : seq.held;
    };
    for (int skip = 0;; skip += range_list::most) {
      auto& entry = next_entry();
      entry.list.collect(job_.select, all, limit, skip, 0, every_key, cut);
      entry.number = number, entry.first = skip == 0, entry.last = entry.list.count < range_list::most;
      entry.block = block, entry.sequence = seq;
      const bool last = entry.last;
      publish();
      if (skip == 0) load_queries(block, seq);
      for (key_tiles t(entry.list); t.left(); t.next()) {
        const bool cached = t.at < seq.held;
        const int row = static_cast<int>(cached ? job_.cache.slots.slot(t.at) : seq.begin + t.at - seq.held), batch = static_cast<int>(cached ? seq.n : seq.batch);
        load(cached ? maps_.cached_k : maps_.k, stages::k_tile(base_, place_.stage), block, s_.k, s_.k_free, row, batch);
        load(cached ? maps_.cached_v : maps_.v, stages::v_tile(base_, place_.stage), block, s_.v, s_.v_free, row, batch);
        place_.next();
      }
      entry_place_.next();
      if (last) break;
    }
  }
  __device__ typename stages::entry& next_entry() {
    ptx::wait(ptx::shared_address(s_.entry_free + entry_place_.stage), entry_place_.phase ^ 1);
    return s_.entries[entry_place_.stage];
  }
  __device__ void publish() { ptx::arrive(ptx::shared_address(s_.entry_full + entry_place_.stage)); }
  __device__ void load_queries(const query_block& block, const call_sequence& seq) {
    ptx::wait(ptx::shared_address(&s_.q_free), q_phase_ ^ 1);
    q_phase_ ^= 1;
    const word full = ptx::shared_address(&s_.q);
    ptx::arrive_expecting(full, stages::tile);
    for (int p = 0; p < stages::panels; ++p)
      ptx::tensor_load(base_ + static_cast<word>(p * stages::panel), &maps_.q, p * 64, block.head, static_cast<int>(seq.begin + block.first), static_cast<int>(seq.batch), full);
  }
  __device__ void load(const CUtensorMap& map, word to, const query_block& block, std::uint64_t* full, std::uint64_t* free, int row, int batch) {
    ptx::wait(ptx::shared_address(free + place_.stage), place_.phase ^ 1);
    const word barrier = ptx::shared_address(full + place_.stage);
    ptx::arrive_expecting(barrier, stages::tile);
    for (int p = 0; p < stages::panels; ++p)
      ptx::tensor_load(to + static_cast<word>(p * stages::panel), &map, p * 64, block.head / job_.group(), row, batch, barrier);
  }

  const attention_job<T, Selector>& job_;
  const attention_maps& maps_;
  const attention_work& work_;
  const word base_;
  typename stages::shared& s_;
  ring_place<stages::count> place_{};
  ring_place<2> entry_place_{};
  word q_phase_ = 0;
};

// Four warps: 64 rows, of which a thread has two, row() and row() + 8, and the columns 8 b + 2 (lane % 4) + {0, 1} of both.
template <class T, class Selector, int D>
class query_warps {
  using stages = attention_stages<D>;
  static constexpr float log2e = 1.4426950408889634f;

 public:
  __device__ query_warps(const attention_job<T, Selector>& job, const attention_maps& maps, const attention_work& work, word base, typename stages::shared& s)
      : job_(job), maps_(maps), work_(work), base_(base), s_(s), lane_(ptx::lane()), group_(static_cast<int>(threadIdx.x / 128)),
        row_(static_cast<int>(threadIdx.x / 32) * 16 + lane_ / 4), plain_(job.softcap == 0 && job.scale > 0), factor_(plain_ ? job.scale * log2e : log2e) {}

  __device__ void run() {
    ring_place<2> at{};
    for (word q_phase = 0;; at.next()) {
      ptx::wait(ptx::shared_address(s_.entry_full + at.stage), at.phase);
      const auto& entry = s_.entries[at.stage];
      if (entry.number < 0) break;
      const query_block block = entry.block;
      const call_sequence seq = entry.sequence;
      if (entry.first) {
        for (float& x : o_) x = 0;
        m_[0] = m_[1] = -INFINITY;
        l_[0] = l_[1] = 0;
        ptx::wait(ptx::shared_address(&s_.q), q_phase);
        q_phase ^= 1;
      }
      fold(entry.list, block, seq);
      if (entry.last) free(s_.q_free);
      const bool last = entry.last;
      const index number = entry.number;
      free(s_.entry_free[at.stage]);
      if (last && __any_sync(0xffffffffu, finish(block, seq)) && lane_ == 0) work_.again[number] = 1;
    }
    if (threadIdx.x % 128 == 0) ptx::stores_read();  // shared memory stays until then
  }

 private:
  // The first tile apart: a product under a condition would have the compiler wait for all of them.
  __device__ __forceinline__ void fold(const range_list& list, const query_block& block, const call_sequence& seq) {
    key_tiles t(list);
    if (!t.left()) return;
    float s[64], left[2];
    word p[32];
    auto values = place_;  // the tile that p are the weights of
    start_scores(s);
    ptx::products_wait<0>();
    ptx::pin(s);
    free(s_.k_free[place_.stage]);
    place_.next();
    weigh(s, left, t.at, t.count(), block, seq);
    scale(left);
    pack(p, s);
    for (t.next(); t.left(); t.next()) {
      start_scores(s);
      start_values(p, values);
      ptx::products_wait<1>();
      ptx::pin(s);
      free(s_.k_free[place_.stage]);
      weigh(s, left, t.at, t.count(), block, seq);
      ptx::products_wait<0>();
      ptx::pin(o_);
      free(s_.v_free[values.stage]);
      values = place_;
      place_.next();
      scale(left);
      pack(p, s);
    }
    start_values(p, values);
    ptx::products_wait<0>();
    ptx::pin(o_);
    free(s_.v_free[values.stage]);
  }

  // Writes the rows; whether one has a NaN. By the copy engine where all 64 are there: it knows the ends of tensors, not of sequences.
  __device__ bool finish(const query_block& block, const call_sequence& seq) {
    bool none = false;
    float by[2];
    for (int r = 0; r < 2; ++r) {
      float l = l_[r], left = 1, m = m_[r];
      l += __shfl_xor_sync(0xffffffffu, l, 1);
      l += __shfl_xor_sync(0xffffffffu, l, 2);
      if (job_.sink) {
        const softmax_weights<float> w(m / log2e, job_.sink[block.head * job_.sink_stride]);
        left = w.left, l = l * w.left + w.right, m = w.m * log2e;
      }
      const index token = block.first + row_ + 8 * r;
      if (!seq.fits) l = NAN;
      by[r] = l == 0 ? 0.f : left / l;
      if (lane_ % 4 == 0 && token < seq.count) job_.store_sum(seq.batch, seq.begin + token, block.head, m / log2e, l);
    }
#pragma unroll
    for (int i = 0; i < D / 2; ++i) {
      o_[i] *= by[i / 2 % 2];
      none |= !(o_[i] == o_[i]) && block.first + row_ + 8 * (i / 2 % 2) < seq.count;
    }
    if (work_.maps_o && seq.count - block.first >= 64 * (group_ + 1)) {
      store_tile(block, seq);
      return none;
    }
#pragma unroll
    for (int i = 0; i < D / 2; i += 2) {
      const index token = block.first + row_ + 8 * (i / 2 % 2);
      if (token < seq.count)
        put(seq.batch * job_.o_stride[0] + (seq.begin + token) * job_.o_stride[1] + block.head * job_.o_stride[2] + i / 4 * 8 + lane_ % 4 * 2, o_[i], o_[i + 1]);
    }
    return none;
  }

  // Through shared memory, each panel by one thread of the group; it goes on before they have arrived.
  __device__ __forceinline__ void store_tile(const query_block& block, const call_sequence& seq) {
    const word to = stages::o_tile(base_) + static_cast<word>(group_ * 64 * 128);
    const swizzled_tile tile{to, stages::keys, lane_parts::swizzled(lane_)};
    const bool asks = threadIdx.x % 128 == 0;
    if (asks) ptx::stores_read();
    ptx::sync_threads(1 + group_, 128);
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      const float(&x)[D / 2] = o_;
      store_left(tile, static_cast<int>(threadIdx.x / 32 % 4) * 16, 16 * i,
                 fragment{{ptx::pack<T>(x[8 * i], x[8 * i + 1]), ptx::pack<T>(x[8 * i + 2], x[8 * i + 3]), ptx::pack<T>(x[8 * i + 4], x[8 * i + 5]), ptx::pack<T>(x[8 * i + 6], x[8 * i + 7])}});
    }
    ptx::publish_to_copies();
    ptx::sync_threads(1 + group_, 128);
    if (asks)
      for (int p = 0; p < stages::panels; ++p)
        ptx::tensor_store(&maps_.o, to + static_cast<word>(p * stages::panel), p * 64, block.head, static_cast<int>(seq.begin + block.first + group_ * 64), static_cast<int>(seq.batch));
  }
  __device__ __forceinline__ void put(index at, float x, float y) const {
    if (job_.wide) {
      float* const to = static_cast<float*>(job_.o) + at;
      if (work_.pairs) *reinterpret_cast<float2*>(to) = {x, y};
      else to[0] = x, to[1] = y;
    } else {
      T* const to = static_cast<T*>(job_.o) + at;
      if (work_.pairs) *reinterpret_cast<word*>(to) = ptx::pack<T>(x, y);
      else to[0] = T(x), to[1] = T(y);
    }
  }
  __device__ void free(std::uint64_t& barrier) const {
    __syncwarp();
    if (lane_ == 0) ptx::arrive(ptx::shared_address(&barrier));
  }
  __device__ __forceinline__ void start_scores(float (&s)[64]) const {
    ptx::wait(ptx::shared_address(s_.k + place_.stage), place_.phase);
    const word q = base_ + static_cast<word>(group_ * 64 * 128), k = stages::k_tile(base_, place_.stage);
    ptx::pin(s);
    ptx::products_begin();
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      const word at = static_cast<word>(i / 4 * stages::panel + i % 4 * 32);
      ptx::group_product<T>(s, ptx::matrix_of(q + at), ptx::matrix_of(k + at), i > 0);
    }
    ptx::products_end();
  }
  __device__ __forceinline__ void start_values(const word (&p)[32], const ring_place<stages::count>& at) {
    ptx::wait(ptx::shared_address(s_.v + at.stage), at.phase);
    const word v = stages::v_tile(base_, at.stage);
    ptx::pin(o_);
    ptx::products_begin();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const word a[4] = {p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]};
      ptx::group_product_turned<T>(o_, a, ptx::matrix_of(v + static_cast<word>(i * 16 * 128), stages::panel));
    }
    ptx::products_end();
  }

  __device__ __forceinline__ void scale(const float (&left)[2]) {
#pragma unroll
    for (int i = 0; i < D / 2; ++i) o_[i] *= left[i / 2 % 2];
  }
  static __device__ __forceinline__ void pack(word (&p)[32], const float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < 32; ++i) p[i] = ptx::pack<T>(s[2 * i], s[2 * i + 1]);
  }

  // Scores to weights, and how much of what was summed is left.
  __device__ __forceinline__ void weigh(float (&s)[64], float (&left)[2], index at, int count, const query_block& block, const call_sequence& seq) {
    if (!plain_) {
#pragma unroll
      for (float& x : s) x = capped(job_.scale * x);
    }
    mask(s, at, count, block, seq);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = -INFINITY;
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float m = fmaxf(m_[r], top * factor_), safe = m == -INFINITY ? 0.f : m;
      left[r] = ptx::exp2(m_[r] - safe);
      m_[r] = m;
      float sum = 0;
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4)
        for (int e = i; e < i + 2; ++e) sum += s[e] = ptx::exp2(fmaf(s[e], factor_, -safe));
      l_[r] = l_[r] * left[r] + sum;
    }
  }

  // c tanh(x / c): 1 - 2 / (e^2y + 1), whose error is one of the cap.
  __device__ float capped(float x) const {
    if (job_.softcap == 0) return x;
    return job_.softcap - __fdividef(2 * job_.softcap, ptx::exp2(x * (2 * log2e / job_.softcap)) + 1);
  }

  __device__ __forceinline__ void mask(float (&s)[64], index at, int count, const query_block& block, const call_sequence& seq) const {
    const auto query = [&](index p) { return query_span{block.n, block.head / job_.group(), p, p + 1, seq.keys(), block.head, 1}; };
    bool whole = count == 128;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const index p = seq.held + block.first + row_ + 8 * r, end = job_.causal && p + 1 < at + 128 ? p + 1 : at + 128;
      bool covered = false;
      job_.select.select(query(p), [&](key_range k) { covered |= k.begin <= at && k.end >= at + 128; });
      whole = whole && covered && end == at + 128;
    }
    if (__all_sync(0xffffffffu, whole)) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const index p = seq.held + block.first + row_ + 8 * r, end = job_.causal && p + 1 < at + count ? p + 1 : at + count;
      word read[4] = {0, 0, 0, 0};
      job_.select.select(query(p), [&](key_range k) {
        const index begin = k.begin > at ? k.begin : at, last = k.end < end ? k.end : end;
        if (begin >= last) return;
        const int b = static_cast<int>(begin - at), e = static_cast<int>(last - at);
#pragma unroll
        for (int w = 0; w < 4; ++w) read[w] |= below(e - 32 * w) & ~below(b - 32 * w);
      });
#pragma unroll
      for (int w = 0; w < 4; ++w) read[w] >>= lane_ % 4 * 2;
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4)
        for (int e = 0; e < 2; ++e)
          if (!(read[i / 16] >> (i / 4 % 4 * 8 + e) & 1)) s[i + e] = -INFINITY;
    }
  }
  // The n lowest bits.
  static __device__ word below(int n) { return n <= 0 ? 0u : n >= 32 ? ~0u : (1u << n) - 1; }

  const attention_job<T, Selector>& job_;
  const attention_maps& maps_;
  const attention_work& work_;
  const word base_;
  typename stages::shared& s_;
  const int lane_, group_, row_;
  const bool plain_;
  const float factor_;  // of scores, to powers of two
  ring_place<stages::count> place_{};
  float o_[D / 2], m_[2], l_[2];
};

// Static shared memory tells that the kernel was compiled for a GPU that has its instructions.
template <class T, class Selector, int D>
__global__ void __launch_bounds__(attention_stages<D>::threads, 1)
    attention_tensor(const __grid_constant__ attention_job<T, Selector> job, const __grid_constant__ attention_maps maps, const __grid_constant__ attention_work work) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char tensor_memory[];
  __shared__ typename attention_stages<D>::shared s;
  const word base = (ptx::shared_address(tensor_memory) + 1023) & ~word{1023};
  if (threadIdx.x == 0) s.init();
  __syncthreads();
  if (threadIdx.x >= 256) {
    ptx::give_registers_back<40>();
    if (threadIdx.x == 256) key_loader<T, Selector, D>(job, maps, work, base, s).run();
  } else {
    ptx::take_registers<232>();
    query_warps<T, Selector, D>(job, maps, work, base, s).run();
  }
#endif
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
