// The prepare warps of the tensor-core engine, one decay a token: loads, decays, the pair products P and T of a chunk, and
// the inverse A = (I + T)^-1. For a decay that is one number a token the inverse needs no decay, A = Gamma o (I + T0)^-1
// with T0_ts = c_t . k_s: no exponential enters the substitution. Exponents are never positive for decays that are not.
#pragma once
#include "recurrence_tensor_layout.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class P, class T, int K, tensor_tuning X>
class prepare_warp {
  using L = tensor_layout<P, K, X>;
  using B = tensor_block<P, T, K, X>;
  static constexpr int C = X.chunk, steps = K / 16;
  static constexpr structure form = structure_of<P>();

 public:
  __device__ prepare_warp(const tensor_job<P, T>& job, const tensor_maps& maps, const B& block, int warp)
      : job_(job), maps_(maps), b_(block), group_(warp / L::halves), half_(warp % L::halves), lane_(static_cast<int>(threadIdx.x % 32)) {
    unsigned char* const scratch = b_.memory + L::scratch + group_ * L::group_bytes;
    below_ = {ptx::shared_address(scratch), L::inverse_stride};
    mine_ = scratch + L::below_bytes + half_ * L::warp_bytes;
    lengths_ = reinterpret_cast<float*>(scratch + L::lengths);
  }

  // Every groups-th chunk; the copies run on until the last output has left.
  __device__ void run() {
    copy(group_ - L::groups);
    lanes_of<P, float> next = gates(group_);
    for (int n = group_; n < b_.chunks + L::groups + 1; n += L::groups) {
      if (n > L::groups) b_.wait_folded(n - L::groups - 1);
      copy(n);
      if (n >= b_.chunks) continue;
      const lanes_of<P, float> now = next;
      next = gates(n + L::groups);
      prepare(n, now);
    }
  }

 private:
  // The numbers that scale a token's inputs, and its decay.
  struct factors {
    float q = 0, k = 0, c = 0, z = 0, g = 0;  // g in base 2
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
    const float g = L::decays ? side.g * 1.4426950408889634f : 0.f;
    // 2^-150 is 0, and the difference of two infinities is not.
    return {side.q * job_.x.scale, side.k, side.c, job_.policy.template write<float>(values), g < -150.f ? -150.f : g};
  }

  // One lane stores the output of the chunk that the chain has left, from the place of its v, and loads a chunk to its place.
  __device__ void copy(int n) const {
    if (half_ != 0) return;
    if (lane_ == 0) {
      const int done = n - L::groups - 1, fresh = n + L::groups;
      const auto token = [&](int m) { return static_cast<int>(b_.begin) + m * C; };
      if (done >= 0 && b_.length(done) == C) {
        for (int c = 0; c < X.slice; c += 64) ptx::tensor_store(&maps_.o, b_.v(done).unit(0, c / 8), b_.column + c, b_.head, token(done), static_cast<int>(b_.batch));
        ptx::stores_read();
      }
      if (fresh < b_.chunks) {
        const word full = b_.loaded(fresh);
        const int batch = static_cast<int>(b_.batch);
        ptx::arrive_expecting(full, L::stage_bytes);
        for (int c = 0; c < K; c += 64) {
          ptx::tensor_load(b_.k(fresh).unit(0, c / 8), &maps_.k, c, b_.key_head, token(fresh), batch, full);
          ptx::tensor_load(b_.q(fresh).unit(0, c / 8), &maps_.q, c, b_.key_head, token(fresh), batch, full);
        }
        for (int c = 0; c < X.slice; c += 64) ptx::tensor_load(b_.v(fresh).unit(0, c / 8), &maps_.v, b_.column + c, b_.head, token(fresh), batch, full);
      }
    }
    __syncwarp();
  }

  __device__ void sync_group() const { ptx::sync_threads(1 + group_, 32 * L::halves); }

  __device__ void prepare(int n, const lanes_of<P, float>& raw) {
    factors f = n * C + lane_ < b_.tokens ? factors_of(raw) : factors{};
    float total = f.g;  // of the tokens up to the lane's
    for (int d = 1; d < 32; d *= 2) {
      const float before = __shfl_up_sync(~0u, total, d);
      if (lane_ >= d) total += before;
    }
    b_.wait_loaded(n);
    if (b_.length(n) < C) clear_tail(n);
    sync_group();  // all of the group have left the chunk before

    fragment q[steps], k[steps];
    for (int i = 0; i < steps; ++i) {
      q[i] = left(b_.q(n), 16 * half_, 16 * i);
      k[i] = left(b_.k(n), 16 * half_, 16 * i);
    }
    if (job_.x.unit) unit_lengths(q, k, f);
    float* const decays = reinterpret_cast<float*>(mine_);
    decays[lane_] = total, decays[C + lane_] = f.k;
    if (half_ == 0) publish_scalars(n, f, total);
    __syncwarp();
    products(n, f, q, k);
    if constexpr (L::erases) {
      __syncwarp();
      invert_diagonal(n);
      sync_group();
      if (half_ == 0) invert_below(n);
    }
    __syncwarp();
    if (lane_ == 0) ptx::arrive(b_.prepared(n));
  }

  // Rows past the end may be another sequence's.
  __device__ void clear_tail(int n) const {
    constexpr int units = (2 * K + X.slice) / 8;
    for (int i = half_ * 32 + lane_; i < (C - b_.length(n)) * units; i += 32 * L::halves) {
      const int r = b_.length(n) + i / units, u = i % units;
      const word at = u < K / 8 ? b_.k(n).unit(r, u) : u < K / 4 ? b_.q(n).unit(r, u - K / 8) : b_.v(n).unit(r, u - K / 4);
      *reinterpret_cast<uint4*>(b_.memory + (at - b_.base)) = uint4{};
    }
  }

  // Scales the factors of the unit keys by 1 / length.
  __device__ void unit_lengths(const fragment (&q)[steps], const fragment (&k)[steps], factors& f) const {
    const auto lengths = [&](const fragment(&x)[steps], float* to) {
      float sum[2] = {};
      for (const fragment& e : x)
        for (int w = 0; w < 4; ++w) {
          const float2 pair = ptx::unpack<T>(e.w[w]);
          sum[w % 2] += pair.x * pair.x + pair.y * pair.y;
        }
      for (int r = 0; r < 2; ++r) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        if (lane_ % 4 == 0) to[16 * half_ + lane_ / 4 + 8 * r] = rsqrtf(sum[r] + job_.x.l2norm_eps);
      }
    };
    if constexpr (form.q < unit_keys<P>()) lengths(q, lengths_);
    if constexpr (form.k < unit_keys<P>()) lengths(k, lengths_ + C);
    sync_group();
    if constexpr (form.q < unit_keys<P>()) f.q *= lengths_[lane_];
    if constexpr (form.k < unit_keys<P>()) f.k *= lengths_[C + lane_], f.c *= lengths_[C + lane_];
  }

  __device__ void publish_scalars(int n, const factors& f, float total) const {
    chunk_scalars<C>& s = b_.scalars(n);
    const float end = __shfl_sync(~0u, total, 31), since_start = ptx::exp2(total), to_end = ptx::exp2(end - total);
    // Without an erase U is v itself, and z's factor goes where v does.
    if constexpr (L::erases) s.erase[lane_] = f.c * since_start, s.value[lane_] = f.z;
    s.read[lane_] = f.q * since_start;
    s.write[lane_] = f.k * to_end * (L::erases ? 1.f : f.z);
    if (lane_ == 31) s.decay = since_start;
  }

  // P_ts = (q_t . k_s) Gamma_ts with its factors for s <= t, to the chain; T0_ts = (c_t . k_s) for s < t.
  __device__ void products(int n, const factors& f, const fragment (&q)[steps], const fragment (&k)[steps]) const {
    const float* const decays = reinterpret_cast<const float*>(mine_);
    const int g = lane_ / 4, row = 16 * half_ + g;
    float reader[2], eraser[2], since[2];
    for (int r = 0; r < 2; ++r) {
      reader[r] = __shfl_sync(~0u, f.q, row + 8 * r);
      eraser[r] = __shfl_sync(~0u, f.c, row + 8 * r);
      since[r] = decays[row + 8 * r];
    }
    const float z = L::erases ? 1.f : f.z;
#pragma unroll
    for (int j = 0; j < L::halves; ++j) {
      if (j > half_) break;
      block qk{}, kk{};
#pragma unroll
      for (int i = 0; i < steps; ++i) {
        const fragment b = right(b_.k(n), 16 * j, 16 * i);
        qk.add_product<T>(q[i], b);
        if constexpr (L::erases) kk.add_product<T>(k[i], b);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int s = 16 * j + block_column(h, 0);
        const float2 gs = *reinterpret_cast<const float2*>(decays + s);
        float2 ks = *reinterpret_cast<const float2*>(decays + C + s);
        float pair[4], erased[4];
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          const int r = x / 2, column = s + x % 2;
          const float writer = x % 2 ? ks.y : ks.x;
          float p = qk.half[h][x] * reader[r] * writer;
          if constexpr (L::decays) p *= ptx::exp2(since[r] - (x % 2 ? gs.y : gs.x));
          if constexpr (!L::erases) p *= __shfl_sync(~0u, z, column);
          pair[x] = j < half_ || column <= row + 8 * r ? p : 0.f;
          erased[x] = kk.half[h][x] * eraser[r] * writer;
        }
        const padded_tile to = b_.pairs(n);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          put(to.element(row + 8 * r, s), ptx::pack<T>(pair[2 * r], pair[2 * r + 1]));
          if constexpr (L::erases) {
            if (j < half_) put(below_.element(g + 8 * r, s), ptx::pack<fp16>(erased[2 * r], erased[2 * r + 1]));
            else
              for (int e = 0; e < 2; ++e) diagonal()[block_column(h, e) * L::diagonal_stride + g + 8 * r] = erased[2 * r + e];
          }
        }
      }
    }
  }

  // Substitution in float, a column a lane (twice: each half of the warp keeps 8 of the 16 rows).
  __device__ void invert_diagonal(int n) const {
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
    const float* const decays = reinterpret_cast<const float*>(mine_) + 16 * half_;
    const float own = decays[column];
    word plain[4], decayed[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float u = part ? x[8 + 2 * e] : x[2 * e], w = part ? x[9 + 2 * e] : x[2 * e + 1];
      const int row = 8 * part + 2 * e;
      plain[e] = ptx::pack<fp16>(u, w);
      decayed[e] = ptx::pack<T>(row >= column ? u * since(decays[row], own) : 0.f, row + 1 >= column ? w * since(decays[row + 1], own) : 0.f);
    }
    *reinterpret_cast<uint4*>(mine_ + L::inverse + column * L::inverse_stride + part * 16) = {plain[0], plain[1], plain[2], plain[3]};
    const word to = b_.inverse(n).element(16 * half_ + column, 16 * half_ + 8 * part);
    *reinterpret_cast<uint4*>(b_.memory + (to - b_.base)) = {decayed[0], decayed[1], decayed[2], decayed[3]};
  }

  // A_10 = -A_11 T_10 A_00 from transposes: A_10^T = -(A_00^T T_10^T) A_11^T. Entries stay near 1: fp16 keeps 11 bits.
  __device__ void invert_below(int n) const {
    const auto inverse_of = [&](int half) {
      return padded_tile{ptx::shared_address(mine_) + static_cast<word>((half - half_) * L::warp_bytes + L::inverse), L::inverse_stride};
    };
    block product{}, result{};
    product.add_product<fp16>(left(inverse_of(0), 0, 0), right(below_, 0, 0));
    result.add_product<fp16>(product.as_left<fp16>(), right_turned(inverse_of(1), 0, 0));
    const float* const decays = reinterpret_cast<const float*>(mine_);
    const padded_tile to = b_.inverse(n);
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int s = block_row(2 * r), t = 16 + block_column(h, 0);
        put(to.element(s, t), ptx::pack<T>(-result.half[h][2 * r] * since(decays[t], decays[s]), -result.half[h][2 * r + 1] * since(decays[t + 1], decays[s])));
      }
  }

  static __device__ float since(float later, float earlier) { return L::decays ? ptx::exp2(later - earlier) : 1.f; }
  __device__ float* diagonal() const { return reinterpret_cast<float*>(mine_ + L::diagonal); }
  __device__ void put(word at, word value) const { *reinterpret_cast<word*>(b_.memory + (at - b_.base)) = value; }

  const tensor_job<P, T>& job_;
  const tensor_maps& maps_;
  const B& b_;
  int group_, half_, lane_;
  padded_tile below_;
  unsigned char* mine_;
  float* lengths_;
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
