// The prepare warps where a token has one decay, or none: the pair products P and T of a chunk. The inverse needs no decay,
// A = Gamma o (I + T0)^-1 with T0_ts = c_t . k_s: no exponential enters the substitution. An erase that reads before the decay
// has no such form: there T_ts = c_t . k_s exp(G_{t-1} - G_s) is inverted. Exponents are never positive for decays that are not.
#pragma once
#include "recurrence_prepare.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class P, class T, int K, tensor_tuning X>
class prepare_tokens : public prepare_base<prepare_tokens<P, T, K, X>, P, T, K, X> {
  using base = prepare_base<prepare_tokens, P, T, K, X>;
  using typename base::B, typename base::L, typename base::factors;
  using base::C, base::form, base::pre, base::steps, base::b_, base::lane_, base::half_, base::place_, base::below_, base::decays, base::diagonal, base::put;

 public:
  using base::base;

  __device__ void load_gates(int) const {}
  __device__ void prepare(int n, const lanes_of<P, float>& raw) {
    factors f = n * C + lane_ < b_.tokens ? this->factors_of(raw) : factors{};
    if (lane_ % X.micro != 0) f.g = 0;  // a token decays once
    // 2^-150 is 0, and the difference of two infinities is not.
    float total = f.g < -150.f ? -150.f : this->watch_ && !(f.g < INFINITY) ? 0.f : f.g;  // of the tokens up to the lane's
    for (int d = 1; d < 32; d *= 2) {
      const float before = __shfl_up_sync(~0u, total, d);
      if (lane_ >= d) total += before;
    }
    B::wait(b_.loaded(n), n);
    if (b_.length(n) < C) {
      this->clear_tail(n);
      this->sync_group();
    }
    int end = C;
    if (this->watch_) {
      end = this->end_of_numbers(f, false);
      this->sync_group();
      end = this->end_for_outputs(end);
    }
    this->use_scratch(n / L::groups);

    fragment q[steps], c[steps];
    for (int i = 0; i < steps; ++i) {
      q[i] = left(b_.q_of_steps(place_.stage), 16 * half_ / X.micro, 16 * i);
      c[i] = left(b_.c(place_.stage), 16 * half_, 16 * i);
    }
    if (this->job_.x.unit) unit_lengths(f, q, c);
    decays()[lane_] = total, decays()[C + lane_] = f.k;
    publish_scalars(f, total);
    this->publish_end(end);
    __syncwarp();
    products(f, q, c);
    if constexpr (L::erases) {
      __syncwarp();
      this->invert_diagonal();
      this->sync_group();
      if (half_ == 0) this->invert_below();
    }
    ptx::arrive(b_.prepared(n));
  }

 private:
  // Scales the factors of the unit keys by 1 / length, as far as this warp needs them: of its own tokens, and of the keys before.
  // The squares are the diagonal of a product with itself.
  __device__ void unit_lengths(factors& f, const fragment (&q)[steps], const fragment (&c)[steps]) const {
    constexpr bool of_q = is_unit_key<P>(form.q), of_k = is_unit_key<P>(form.k), of_c = L::loads_c && is_unit_key<P>(form.c);
    block squares[4] = {};  // of q, c, the own keys, the keys before
    const auto add = [&](block& sum, const fragment& x) { sum.template add_product<T>(x, x.left_as_right()); };
#pragma unroll
    for (int i = 0; i < steps; ++i) {
      if constexpr (of_q) add(squares[0], q[i]);
      if constexpr (of_c) add(squares[1], c[i]);
      if constexpr (of_k) {
        if constexpr (L::loads_c) add(squares[2], left(b_.k(place_.stage), 16 * half_, 16 * i));
        else add(squares[2], c[i]);
        if (half_ == 1) add(squares[3], left(b_.k(place_.stage), 0, 16 * i));
      }
    }
    float* const at = decays();  // G and the factors come here next
    const int g = lane_ / 4;
    const auto put_lengths = [&](const block& of, float* to) {
      if (lane_ % 4 == g / 2)
        for (int h = 0; h < 2; ++h) to[g + 8 * h] = rsqrtf((g % 2 ? of.half[h][2 * h + 1] : of.half[h][2 * h]) + this->job_.x.l2norm_eps);
    };
    float *const keys = at, *const others = at + C, *const erasers = diagonal();
    if constexpr (of_q) put_lengths(squares[0], others + 16 * half_);
    if constexpr (of_c) put_lengths(squares[1], erasers + 16 * half_);
    if constexpr (of_k) {
      put_lengths(squares[2], keys + 16 * half_);
      if (half_ == 1) put_lengths(squares[3], keys);
    }
    __syncwarp();
    if constexpr (of_q) f.q *= others[lane_];
    if constexpr (of_k) f.k *= keys[lane_];
    if constexpr (L::loads_c ? of_c : of_k) f.c *= (L::loads_c ? erasers : keys)[lane_];
    __syncwarp();
  }
  // Whether a token is read after the step.
  static __device__ bool is_read(int step) { return step % X.micro == X.micro - 1; }
  // The sum of the decays of the tokens before the lane's.
  __device__ float before(float total) const {
    const float sum = __shfl_up_sync(~0u, total, 1);
    return lane_ > 0 ? sum : 0.f;
  }
  // Of the warp's own tokens.
  __device__ void publish_scalars(const factors& f, float total) const {
    const float end = __shfl_sync(~0u, total, 31), earlier = before(total), since_start = ptx::exp2(total), to_end = ptx::exp2(end - total);
    if (lane_ / 16 != half_) return;
    auto& s = b_.scalars(place_.slot);
    // Without an erase U is v itself, and z's factor goes where v does.
    if constexpr (L::erases) s.erase[lane_] = f.c * (pre ? ptx::exp2(earlier) : since_start), s.value[lane_] = f.z;
    if (is_read(lane_)) s.read[lane_ / X.micro] = f.q * since_start;
    s.write[lane_] = f.k * to_end * (L::erases ? 1.f : f.z);
    if (lane_ == 31) s.decay = since_start;
  }

  // P_ts = (q_t . k_s) Gamma_ts with its factors for s <= t, to the chain; T0_ts, or T_ts, for s < t.
  __device__ void products(const factors& f, const fragment (&q)[steps], const fragment (&c)[steps]) const {
    const float* const g_and_k = decays();
    const int g = lane_ / 4, row = 16 * half_ + g;
    float reader[2], eraser[2], since[2], earlier[2];
    for (int r = 0; r < 2; ++r) {
      reader[r] = __shfl_sync(~0u, f.q, row + 8 * r);
      eraser[r] = __shfl_sync(~0u, f.c, row + 8 * r);
      since[r] = g_and_k[row + 8 * r];
      if constexpr (pre) earlier[r] = row + 8 * r > 0 ? g_and_k[row + 8 * r - 1] : 0.f;
    }
    const float z = L::erases ? 1.f : f.z;
#pragma unroll 1  // as few instructions as may be: those of both kinds of warps hardly fit the cache
    for (int j = 0; j <= half_; ++j) {
      block qk{}, ck{};
#pragma unroll
      for (int i = 0; i < steps; ++i) {
        const fragment b = right(b_.k(place_.stage), 16 * j, 16 * i);
        qk.add_product<T>(q[i], b);
        if constexpr (L::erases) ck.add_product<T>(c[i], b);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int s = 16 * j + block_column(lane_, h, 0);
        const float2 gs = *reinterpret_cast<const float2*>(g_and_k + s);
        const float2 ks = *reinterpret_cast<const float2*>(g_and_k + C + s);
        float pair[4], erased[4];
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          const int r = x / 2, column = s + x % 2;
          const float writer = x % 2 ? ks.y : ks.x;
          float p = qk.half[h][x] * reader[r] * writer;
          if constexpr (L::decays) p *= ptx::exp2(since[r] - (x % 2 ? gs.y : gs.x));
          if constexpr (!L::erases) p *= __shfl_sync(~0u, z, column);
          pair[x] = j < half_ || column <= row + 8 * r ? p : 0.f;
          erased[x] = ck.half[h][x] * eraser[r] * writer;
          if constexpr (pre) erased[x] *= ptx::exp2(::fminf(earlier[r] - (x % 2 ? gs.y : gs.x), 0.f));
        }
        const padded_tile to = b_.pairs(place_.slot);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          if (is_read(row)) put(to.element((row + 8 * r) / X.micro, s), ptx::pack<T>(pair[2 * r], pair[2 * r + 1]));
          if (X.micro > 1 && half_ == 0 && is_read(row)) put(to.element((row + 8 * r) / X.micro, 16 + s), 0);  // the same block for the chain
          if constexpr (L::erases) {
            if (j < half_) put(below_.element(g + 8 * r, s), ptx::pack<fp16>(erased[2 * r], erased[2 * r + 1]));
            else
              for (int e = 0; e < 2; ++e) diagonal()[block_column(lane_, h, e) * L::diagonal_stride + g + 8 * r] = erased[2 * r + e];
          }
        }
      }
    }
  }
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
