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
  __device__ prepare_base(const tensor_job<P, T>& job, const tensor_maps& maps, const B& block, int warp)
      : job_(job), maps_(maps), b_(block), group_(warp / L::halves), half_(warp % L::halves), lane_(block.swizzled.lane) {
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
      if (half_ == 0 && lane_ == 0) {  // the chunk that is done leaves its stage to one that comes
        const int stage = place_.stage_after(L::groups);
        if (n > L::groups) store(n - L::groups - 1, stage);
        load(n + L::groups, stage);
      }
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
    if (b_.length(n) < C || !job_.o) return;
    if constexpr (L::copies_out)
      for (int c = 0; c < X.slice; c += 64)
        ptx::tensor_store(&maps_.o, b_.v(stage).unit(0, c / 8), b_.column + c, b_.head, static_cast<int>(b_.begin) + n * C, static_cast<int>(b_.batch));
    ptx::stores_read();
  }
  __device__ void load(int n, int stage) const {
    if (n >= b_.chunks || half_ != 0 || lane_ != 0) return;
    const word full = b_.loaded(n);
    const int token = static_cast<int>(b_.begin) + n * C, batch = static_cast<int>(b_.batch);
    ptx::arrive_expecting(full, L::stage_bytes - (P::axes.micro_steps ? L::key_bytes - L::key_bytes / b_.micro : 0));
    for (int c = 0; c < K; c += 64) {
      if constexpr (L::loads_k) ptx::tensor_load(b_.k(stage).unit(0, c / 8), &maps_.k, c, b_.key_head, token, batch, full);
      if constexpr (L::loads_c) ptx::tensor_load(b_.c(stage).unit(0, c / 8), &maps_.c, c, b_.key_head, token, batch, full);
      if constexpr (L::two) ptx::tensor_load(b_.p(stage).unit(0, c / 8), &maps_.p, c, b_.key_head, token, batch, full);
      ptx::tensor_load(b_.q(stage).unit(0, c / 8), &maps_.q, c, b_.key_head, token / b_.micro, batch, full);
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
    for (int i = thread; i < (end - first) * units; i += threads) {
      const int r = first + i / units, u = i % units;
      const word at = u < K / 8 ? b_.q(place_.stage).unit(b_.q_row(r), u) : u < of_keys ? b_.tile(place_.stage, u / (K / 8)).unit(r, u % (K / 8)) : b_.v(place_.stage).unit(r, u - of_keys);
      *reinterpret_cast<uint4*>(b_.memory + (at - b_.base)) = uint4{};
    }
  }

  // Scales the factors of the unit keys by 1 / length, as far as this warp needs them: of its own tokens, and of the keys before.
  __device__ void unit_lengths(factors& f) const {
    // The squares are the diagonal of a product with itself.
    const auto lengths = [&](auto&& part, int first, float* to) {
      block squares{};
#pragma unroll 2
      for (int i = 0; i < steps; ++i) {
        const fragment e = part(i);
        squares.template add_product<T>(e, e.left_as_right());
      }
      const int g = lane_ / 4;
      if (lane_ % 4 == g / 2)
        for (int h = 0; h < 2; ++h) to[first + g + 8 * h] = rsqrtf((g % 2 ? squares.half[h][2 * h + 1] : squares.half[h][2 * h]) + job_.x.l2norm_eps);
    };
    float* const of_k = reinterpret_cast<float*>(mine_);  // G and the factors come here next
    float *const of_q = of_k + C, *const of_c = diagonal();
    if constexpr (is_unit_key<P>(form.q)) lengths([&](int i) { return left(b_.q(place_.stage), b_.q_row(16 * half_), 16 * i); }, 16 * half_, of_q);
    if constexpr (is_unit_key<P>(form.k)) {
      lengths([&](int i) { return left(b_.k(place_.stage), 16 * half_, 16 * i); }, 16 * half_, of_k);
      if (half_ == 1) lengths([&](int i) { return left(b_.k(place_.stage), 0, 16 * i); }, 0, of_k);
    }
    constexpr bool unit_c = L::loads_c && is_unit_key<P>(form.c);
    if constexpr (unit_c) lengths([&](int i) { return left(b_.c(place_.stage), 16 * half_, 16 * i); }, 16 * half_, of_c);
    __syncwarp();
    if constexpr (is_unit_key<P>(form.q)) f.q *= of_q[lane_];
    if constexpr (is_unit_key<P>(form.k)) f.k *= of_k[lane_];
    if constexpr (L::loads_c ? unit_c : is_unit_key<P>(form.k)) f.c *= (L::loads_c ? of_c : of_k)[lane_];
    __syncwarp();
  }

  // A product's zeros do not keep a NaN of a later token from an earlier one. So a sequence ends for the products where one
  // of its keys or gates is not finite (the chain sees to v): from that token on the inputs are 0, every output and the state are NaN. Returns the first
  // such token of the warp's half, or C; `seen` is of its q and k.
  // A decay of minus infinity is a number like any other.
  __device__ int cut(factors& f, word (&seen)[2]) const {
    const bool own = lane_ / 16 == half_ && !(0.f * f.q + 0.f * f.k + 0.f * f.c + 0.f * f.p + 0.f * f.z == 0.f && f.g < INFINITY);
    const bool upper = wrong(seen[0]), lower = wrong(seen[1]);
    if (!__any_sync(~0u, own || upper || lower)) return C;
    int first = own ? lane_ % 16 : 16;
    if (upper) first = ::min(first, lane_ / 4);
    else if (lower) first = ::min(first, 8 + lane_ / 4);
    first = 16 * half_ + __reduce_min_sync(~0u, first);
    if (lane_ >= first) f.q = f.k = f.c = f.p = f.z = 0;
    clear_rows(first, 16 * half_ + 16, lane_, 32);
    ptx::publish_to_copies();
    __syncwarp();
    return first;
  }
  __device__ fragment rows_before(int first, fragment x) const {
#pragma unroll
    for (int w = 0; w < 4; ++w)
      if (16 * half_ + lane_ / 4 + 8 * (w % 2) >= first) x.w[w] = 0;
    return x;
  }
  // What the chain makes of a cut: the rest of the outputs and the state become NaN.
  __device__ void publish_cut(int first) const {
    auto& s = b_.scalars(place_.slot);
    const float nan = __int_as_float(0x7fffffff);
    if (half_ == 0 && lane_ == 0) s.poison = first < C ? nan : 0.f;
    if (lane_ / 16 != half_ || lane_ < first) return;
    s.read[lane_] = nan;
    if (lane_ == first) s.write[lane_] = nan;
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
  int group_, half_, lane_;
  place place_{};
  padded_tile below_;
  unsigned char* mine_;
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
