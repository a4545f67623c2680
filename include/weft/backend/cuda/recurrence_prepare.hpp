// What the prepare warps of the tensor-core engine do for every kind of decay: loads and stores, the numbers that scale a
// token's inputs, and the inverse A = (I + T)^-1 of a chunk.
#pragma once
#include "recurrence_tensor_layout.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Derived prepares one chunk: prepare(n, gates), and load_gates(n), where gates are channels, before.
template <class Derived, class P, class T, int K, tensor_tuning X>
class prepare_base {
 protected:
  using L = tensor_layout<P, K, X>;
  using B = tensor_block<P, T, K, X>;
  using place = chunk_place<L>;
  static constexpr int C = X.chunk, steps = K / 16;
  static constexpr structure form = L::form;
  static constexpr bool pre = P::axes.timing == timing::pre;

 public:
  __device__ prepare_base(const tensor_job<P, T>& job, const tensor_maps& maps, const B& block, int warp, bool watch)
      : job_(job), maps_(maps), b_(block), watch_(watch), group_(warp / L::halves), half_(warp % L::halves), lane_(block.swizzled.lane) {
    use_scratch(0);
  }

  // Every groups-th chunk; the copies run on until the last output has left.
  __device__ void run() {
    place_ = place::at(group_);
    load(group_, place_.stage);
    static_cast<Derived&>(*this).load_gates(group_);
    lanes_of<P, float> next = gates(group_);
    for (; place_.n < b_.chunks + L::groups + 1; place_.advance(L::groups)) {
      const int n = place_.n;
      if (n > L::groups) B::wait(b_.folded(n - L::groups - 1), n - L::groups - 1);
      const int stage = place_.stage_after(L::groups);  // the chunk that is done leaves its stage to one that comes
      if (n > L::groups) store(n - L::groups - 1, stage);
      load(n + L::groups, stage);
      __syncwarp();
      if (n >= b_.chunks) continue;
      lanes_of<P, float> now = next;
      for_each_member(now, [](float& x, auto) { ptx::pin(x); });  // loaded a chunk ahead, and not waited for before
      next = gates(n + L::groups);
      static_cast<Derived&>(*this).prepare(n, now);
    }
  }

 protected:
  // The numbers that scale a token's inputs, and its decay (of channels: what scales it).
  struct factors {
    float q = 0, k = 0, c = 0, p = 0, z = 0, g = 0;  // g in base 2
  };

  __device__ lanes_of<P, float> gates(int n) const {
    const int t = n * C + lane_;
    if (t >= b_.tokens) return {};
    return row<P, T>(job_.in, job_.x, b_.batch, b_.begin + t, b_.head).raw_gates();
  }

  __device__ factors factors_of(const lanes_of<P, float>& raw) const {
    lanes_of<P, float> keys = row<P, T>::activated(job_.policy, raw), values = keys;
    for_each_member(keys, [](float& e, auto m) {
      if constexpr (role_of<P, m>.width == width::key_dim) e = 1;
    });
    for_each_member(values, [](float& e, auto m) {
      if constexpr (role_of<P, m>.width == width::value_dim) e = 1;
    });
    const key_terms<float> side = job_.policy.template key_side<float>(keys);
    return {side.q * job_.x.scale, L::loads_k ? side.k : 1.f, L::makes_c ? 1.f : side.c, side.p,
            job_.value * (L::makes_z ? 1.f : job_.policy.template write<float>(values)), L::decays ? side.g * 1.4426950408889634f : 0.f};
  }

  // The output of chunk n, from the place of its v.
  __device__ void store(int n, int stage) const {
    if (!job_.o) return;
    if (!L::copies_out || b_.length(n) < C) return store_rows(n, stage);
    if (half_ != 0 || lane_ != 0) return;
    if constexpr (L::copies_out)
      for (int c = 0; c < X.slice; c += 64)
        ptx::tensor_store(&maps_.o, b_.v(stage).unit(0, c / 8), b_.column + c, b_.head, (static_cast<int>(b_.begin) + n * C) / X.micro, static_cast<int>(b_.batch));
    ptx::stores_read();
  }
  // The copy engine would write rows past the sequence's end, and all columns of the tile.
  __device__ void store_rows(int n, int stage) const {
    constexpr int units = X.slice / 8;
    const swizzled_tile o = b_.v(stage);
    const index first = (b_.begin + n * C) / X.micro;
    for (int i = half_ * 32 + lane_; i < b_.length(n) / X.micro * units; i += 32 * L::halves) {
      const int r = i / units, u = b_.within / 8 + i % units;
      T* const to = job_.o + b_.batch * job_.o_stride[0] + (first + r) * job_.o_stride[1] + b_.head * job_.o_stride[2] + b_.column + 8 * u;
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(b_.memory + (o.unit(r, u) - b_.base));
    }
    sync_group();  // a load may come there next
  }
  __device__ void load(int n, int stage) const {
    if (n >= b_.chunks || half_ != 0 || lane_ != 0) return;
    const word full = b_.loaded(n);
    const int token = static_cast<int>(b_.begin) + n * C, batch = static_cast<int>(b_.batch);
    ptx::arrive_expecting(full, L::stage_bytes - (L::key_bytes - L::key_bytes / X.micro));
    for (int c = 0; c < K; c += 64) {
      if constexpr (L::loads_k) ptx::tensor_load(b_.k(stage).unit(0, c / 8), &maps_.k, c, b_.key_head, token, batch, full);
      if constexpr (L::loads_c) ptx::tensor_load(b_.c(stage).unit(0, c / 8), &maps_.c, c, b_.key_head, token, batch, full);
      if constexpr (L::two) ptx::tensor_load(b_.p(stage).unit(0, c / 8), &maps_.p, c, b_.key_head, token, batch, full);
      ptx::tensor_load(b_.q(stage).unit(0, c / 8), &maps_.q, c, b_.key_head, token / X.micro, batch, full);
    }
    for (int c = 0; c < L::columns; c += 64) ptx::tensor_load(b_.v(stage).unit(0, c / 8), &maps_.v, b_.column + c, b_.head, token, batch, full);
  }

  // Where decays are numbers of a token, the second warp may be at the next chunk while the first reads this one's scratch.
  __device__ void use_scratch(int turn) {
    const int at = L::scratch + (L::scratch_turns * group_ + turn % L::scratch_turns) * L::group_bytes;
    below_ = {b_.base + static_cast<word>(at), L::inverse_stride, lane_parts::padded(lane_, L::inverse_stride)};
    mine_ = b_.memory + at + L::below_bytes + half_ * L::warp_bytes;
  }

  __device__ void sync_group() const { ptx::sync_threads(1 + group_, 32 * L::halves); }

  // Rows past the end may be another sequence's.
  __device__ void clear_tail(int n) const {
    clear_rows(b_.length(n), C, half_ * 32 + lane_, 32 * L::halves);
  }
  __device__ void clear_rows(int first, int end, int thread, int threads) const {
    constexpr int of_keys = L::keys * K / 8, units = of_keys + L::columns / 8;
#pragma unroll 1
    for (int i = thread; i < (end - first) * units; i += threads) {
      const int r = first + i / units, u = i % units;
      const word at = u < K / 8 ? b_.q(place_.stage).unit(r / X.micro, u) : u < of_keys ? b_.tile(place_.stage, u / (K / 8)).unit(r, u % (K / 8)) : b_.v(place_.stage).unit(r, u - of_keys);
      *reinterpret_cast<uint4*>(b_.memory + (at - b_.base)) = uint4{};
    }
  }

  // A product's zeros do not keep a NaN of a later token from an earlier one. So where the block watches, a sequence ends for the
  // products where a gate, or a number of a tile that enters the state, is not finite: from that token on the inputs are 0, every
  // output and the state are NaN. Returns the first such token of the warp's half, or C; `own`: whether the lane's token is one.
  // A decay of minus infinity is a number like any other; a number of q reaches its own output only.
  __device__ int end_of_numbers(factors& f, bool own) const {
    const int end = own_end(f, own);
    if (half_ == 0 && lane_ == 0) b_.scalars(place_.slot).end = end;
    return end;
  }
  // Later, when both warps know theirs.
  __device__ int end_for_outputs(int end) const { return half_ == 1 && b_.scalars(place_.slot).end < C ? 16 : end; }
  // What the chain makes of it: the rest of the outputs and the state become NaN.
  __device__ void publish_end(int end) const {
    if (lane_ / 16 != half_ || lane_ < end) return;
    auto& s = b_.scalars(place_.slot);
    const float nan = __int_as_float(0x7fffffff);
    if (lane_ % X.micro == X.micro - 1) s.read[lane_ / X.micro] = nan;
    if (lane_ == end) s.write[lane_] = nan;
  }
  __device__ int own_end(factors& f, bool own) const {
    word seen[2] = {};
    const auto look_at = [&](const swizzled_tile& x, int column, int columns) {
#pragma unroll 1
      for (int c = 0; c < columns; c += 16) look<T>(seen, left(x, 16 * half_, column + c));
    };
#pragma unroll 1
    for (int i = 1; i < L::keys; ++i) look_at(b_.tile(place_.stage, i), 0, K);
    look_at(b_.v(place_.stage), b_.within, X.slice);
    own |= lane_ / 16 == half_ && !(0.f * f.k + 0.f * f.c + 0.f * f.p + 0.f * f.z == 0.f && f.g < INFINITY);
    const bool upper = wrong(seen[0]), lower = wrong(seen[1]);
    if (!__any_sync(~0u, own || upper || lower)) return C;
    int first = own ? lane_ % 16 : 16;
    if (upper) first = ::min(first, lane_ / 4);
    else if (lower) first = ::min(first, 8 + lane_ / 4);
    first = 16 * half_ + __reduce_min_sync(~0u, first);
    if (lane_ >= first) f = {};
    __syncwarp();  // all lanes have looked
    clear_rows(first, 16 * half_ + 16, lane_, 32);
    ptx::publish_to_copies();
    __syncwarp();
    return first;
  }

  // Substitution in float, a column a lane (twice: each half of the warp keeps 8 of the 16 rows).
  __device__ void invert_diagonal() const {
    const int column = lane_ % 16, part = lane_ / 16;
    const float* const t = diagonal();
    float x[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) x[i] = i == column ? 1.f : 0.f;
#pragma unroll
    for (int m = 0; m < 15; ++m) {
      float below[16];
#pragma unroll
      for (int i = (m + 1) / 4; i < 4; ++i) *reinterpret_cast<float4*>(below + 4 * i) = *reinterpret_cast<const float4*>(t + m * L::diagonal_stride + 4 * i);
#pragma unroll
      for (int i = m + 1; i < 16; ++i) x[i] = fmaf(-below[i], x[m], x[i]);
    }
    const float* const g = decays() + 16 * half_;
    const float own = g[column];
    word plain[4], decayed[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float u = part ? x[8 + 2 * e] : x[2 * e], w = part ? x[9 + 2 * e] : x[2 * e + 1];
      const int row = 8 * part + 2 * e;
      plain[e] = ptx::pack<fp16>(u, w);
      decayed[e] = ptx::pack<T>(row >= column ? u * since(g[row], own) : 0.f, row + 1 >= column ? w * since(g[row + 1], own) : 0.f);
    }
    *reinterpret_cast<uint4*>(mine_ + L::inverse + column * L::inverse_stride + part * 16) = {plain[0], plain[1], plain[2], plain[3]};
    const word to = b_.inverse(place_.slot).element(16 * half_ + column, 16 * half_ + 8 * part);
    *reinterpret_cast<uint4*>(b_.memory + (to - b_.base)) = {decayed[0], decayed[1], decayed[2], decayed[3]};
  }

  // A_10 = -A_11 T_10 A_00 from transposes: A_10^T = -(A_00^T T_10^T) A_11^T. Entries stay near 1: fp16 keeps 11 bits.
  __device__ void invert_below() const {
    const auto inverse_of = [&](int half) {
      return padded_tile{below_.base + static_cast<word>(L::below_bytes + half * L::warp_bytes + L::inverse), L::inverse_stride, below_.lanes};
    };
    block product{}, result{};
    product.add_product<fp16>(left(inverse_of(0), 0, 0), right(below_, 0, 0));
    result.add_product<fp16>(product.as_left<fp16>(), right_turned(inverse_of(1), 0, 0));
    const float* const g = decays();
    const padded_tile to = b_.inverse(place_.slot);
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int s = block_row(lane_, 2 * r), t = 16 + block_column(lane_, h, 0);
        put(to.element(s, t), ptx::pack<T>(-result.half[h][2 * r] * since(g[t], g[s]), -result.half[h][2 * r + 1] * since(g[t + 1], g[s])));
      }
  }

  // exp of the decay between two tokens where the inverse was made without.
  static constexpr bool plain_inverse = L::decays && !L::channels && !pre;
  static __device__ float since(float later, float earlier) { return plain_inverse ? ptx::exp2(later - earlier) : 1.f; }
  __device__ float* decays() const { return reinterpret_cast<float*>(mine_); }  // G of the chunk's tokens, and then the writers' factors
  __device__ float* diagonal() const { return reinterpret_cast<float*>(mine_ + L::diagonal); }
  __device__ void put(word at, word value) const { *reinterpret_cast<word*>(b_.memory + (at - b_.base)) = value; }

  const tensor_job<P, T>& job_;
  const tensor_maps& maps_;
  const B& b_;
  const bool watch_;
  int group_, half_, lane_;
  place place_{};
  padded_tile below_;
  unsigned char* mine_;
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
