// The chain warps of the tensor-core engine. Each holds S^T for its rows of value columns and all keys in accumulators; their
// layout is that of a left operand, so neither the state nor what is computed from it passes through shared memory, and the
// warps never wait for each other. Per chunk:
//   R^T = value o v^T - erase o (S^T c^T),  U^T = R^T A^T,  o^T = read o (S^T q^T) + U^T P^T,
//   S^T <- decay S^T + (write o U)^T k
#pragma once
#include "recurrence_tensor_layout.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class P, class T, int K, tensor_tuning X>
class chain_warp {
  using L = tensor_layout<P, K, X>;
  using B = tensor_block<P, T, K, X>;
  static constexpr int C = X.chunk, steps = K / 16, halves = L::halves, blocks = L::blocks;

 public:
  __device__ chain_warp(const tensor_job<P, T>& job, const B& block, int warp)
      : job_(job), b_(block), lane_(block.swizzled.lane), row_(block.within + warp * X.chain_rows) {}

  __device__ void run() {
    move_state([](float& here, float& there) { here = there; });
    for (auto place = chunk_place<L>::at(0); place.n < b_.chunks; place.advance(1)) {
      B::wait(b_.prepared(place.n), place.n);
      fold(place);
      ptx::arrive(b_.folded(place.n));
    }
    move_state([](float& here, float& there) { there = here; });
  }

 private:
  template <class F>
  __device__ void move_state(F&& f) {
    const index row = job_.x.value_dim;
    float* p = job_.matrix + ((b_.sequence * job_.x.value_heads + b_.head) * K + block_column(lane_, 0, 0)) * row + b_.column + row_ + block_row(lane_, 0);
#pragma unroll
    for (int j = 0; j < steps; ++j, p += 16 * row)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float* const key = p + (8 * h + e) * row;
#pragma unroll
          for (int m = 0; m < blocks; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) f(state_[m][j].half[h][2 * r + e], key[16 * m + 8 * r]);
        }
  }

  // The numbers of this lane's columns of a block: of 16 tokens, or of 16 channels.
  struct columns {
    float2 half[2];
    __device__ columns(const float* all, int lane, int block16) {
      for (int h = 0; h < 2; ++h) half[h] = *reinterpret_cast<const float2*>(all + 16 * block16 + block_column(lane, h, 0));
    }
    __device__ float at(int h, int x) const { return x % 2 ? half[h].y : half[h].x; }
  };
  static __device__ void scale(block& b, const columns& by) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int x = 0; x < 4; ++x) b.half[h][x] *= by.at(h, x);
  }

  // S^T q^T, and for an erase S^T c^T, for the chunk's tokens: the state is rounded to operands once, and is not needed after.
  __device__ void read(const swizzled_tile& q, const swizzled_tile& c, float decay, const float* channel_decay, block (&of_q)[blocks][halves], block (&of_c)[blocks][halves]) {
#pragma unroll
    for (int j = 0; j < steps; ++j) {
      fragment s[blocks];
#pragma unroll
      for (int m = 0; m < blocks; ++m) {
        s[m] = state_[m][j].template as_left<T>();
        if constexpr (L::channels) scale(state_[m][j], columns(channel_decay, lane_, j));
        else if constexpr (L::decays)
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int x = 0; x < 4; ++x) state_[m][j].half[h][x] *= decay;
      }
#pragma unroll
      for (int t = 0; t < halves; ++t) {
        if constexpr (L::erases) {
          const fragment b = right(c, 16 * t, 16 * j);
#pragma unroll
          for (int m = 0; m < blocks; ++m) of_c[m][t].template add_product<T>(s[m], b);
        }
        const fragment b = right(q, b_.q_row(16 * t), 16 * j);
#pragma unroll
        for (int m = 0; m < blocks; ++m) of_q[m][t].template add_product<T>(s[m], b);
      }
    }
  }

  // Rounds what a warp adds to the state. The error of a token's number is added to a later token's before that is rounded, so
  // that errors do not add up along keys that are alike; for others they are as they were.
  struct rounding {
    float carried[2][2] = {};
    __device__ word round(float& error, float low, float high) {
      low += error;
      const word r = ptx::pack<T>(low, high);
      const float2 kept = ptx::unpack<T>(r);
      error = (low - kept.x) + (high - kept.y);
      return r;
    }
    __device__ fragment round(const block& b) {
      fragment f;
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int r = 0; r < 2; ++r) f.w[2 * h + r] = round(carried[h][r], b.half[h][2 * r], b.half[h][2 * r + 1]);
      return f;
    }
  };

  using tokens = fragment[blocks][halves];  // value columns x tokens

  // R; v itself without an erase.
  __device__ void residual(const swizzled_tile& v, const auto& scalars, const block (&of_c)[blocks][halves], tokens& to) const {
#pragma unroll
    for (int t = 0; t < halves; ++t) {
      const columns erase(scalars.erase, lane_, t), value(scalars.value, lane_, t);
#pragma unroll
      for (int m = 0; m < blocks; ++m) {
        fragment& r = to[m][t];
        r = left_turned(v, 16 * t, row_ + 16 * m);
        if constexpr (L::erases)
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const float2 x = ptx::unpack<T>(r.w[2 * h + pair]);
              const float(&from)[4] = of_c[m][t].half[h];
              r.w[2 * h + pair] = ptx::pack<T>(x.x * value.half[h].x - erase.half[h].x * from[2 * pair], x.y * value.half[h].y - erase.half[h].y * from[2 * pair + 1]);
            }
      }
    }
  }

  // R where z is written beside the erase.
  __device__ void erased(const chunk_place<L>& place, const auto& scalars, const block (&of_c)[blocks][halves], const tokens& values, tokens& to) const {
    const padded_tile pairs = b_.erased_values(place.slot);
#pragma unroll
    for (int t = 0; t < halves; ++t) {
      const columns erase(scalars.erase, lane_, t);
#pragma unroll
      for (int m = 0; m < blocks; ++m) {
        block r = of_c[m][t];
        scale(r, erase);
#pragma unroll
        for (int s = 0; s <= t; ++s) r.template add_product<T>(values[m][s], right(pairs, 16 * t, 16 * s));
        to[m][t] = r.template as_left<T>();
      }
    }
  }
  // What z adds to the state there.
  __device__ void gains(const auto& scalars, const tokens& values, tokens& to) const {
#pragma unroll
    for (int m = 0; m < blocks; ++m) {
      rounding kept;
#pragma unroll
      for (int t = 0; t < halves; ++t) {
        block x = block::of_left<T>(values[m][t]);
        scale(x, columns(scalars.gain, lane_, t));
        to[m][t] = kept.round(x);
      }
    }
  }

  // U from R, as o reads it and, times `write`, as the state takes it.
  __device__ void solve(const chunk_place<L>& place, const auto& scalars, const tokens& residual, tokens& written, tokens& update) const {
    const padded_tile inverse = b_.inverse(place.slot);
    rounding kept[blocks];
#pragma unroll
    for (int t = 0; t < halves; ++t) {
      block u[blocks] = {};
      if constexpr (L::erases)
#pragma unroll
        for (int s = 0; s <= t; ++s) {
          const fragment a = right_turned(inverse, 16 * s, 16 * t);
#pragma unroll
          for (int m = 0; m < blocks; ++m) u[m].template add_product<T>(residual[m][s], a);
        }
      const columns write(scalars.write, lane_, t);
#pragma unroll
      for (int m = 0; m < blocks; ++m) {
        if constexpr (L::erases) written[m][t] = u[m].template as_left<T>();
        else written[m][t] = residual[m][t], u[m] = block::of_left<T>(residual[m][t]);
        scale(u[m], write);
        update[m][t] = kept[m].round(u[m]);
      }
    }
  }

  // A number of v that is not finite would reach the tokens before it by a product's zeros. Then v ends there for the products
  // of the warp's columns; o, of which S^T q is there, is NaN from that token on, and so is the state.
  __device__ bool finite(const swizzled_tile& v) const {
    word seen[2] = {};
#pragma unroll
    for (int t = 0; t < halves; ++t)
#pragma unroll
      for (int m = 0; m < blocks; ++m) look<T>(seen, left_turned(v, 16 * t, row_ + 16 * m));
    return !__any_sync(~0u, wrong(seen[0]) || wrong(seen[1]));
  }
  __device__ void end_values(const swizzled_tile& v, block (&o)[blocks][halves]) {
    int first = C;
#pragma unroll 1
    for (int t = 0; t < halves; ++t)
#pragma unroll 1
      for (int m = 0; m < blocks; ++m) {
        const fragment x = left_turned(v, 16 * t, row_ + 16 * m);
        for (int w = 0; w < 4; ++w) {
          const float2 pair = ptx::unpack<T>(x.w[w]);
          const int token = 16 * t + block_column(lane_, w / 2, 0);
          if (0.f * pair.x != 0.f) first = ::min(first, token);
          if (0.f * pair.y != 0.f) first = ::min(first, token + 1);
        }
      }
    first = __reduce_min_sync(~0u, first);
    constexpr int units = X.chain_rows / 8;
#pragma unroll 1
    for (int i = lane_ + first * units; i < C * units; i += 32) *reinterpret_cast<uint4*>(b_.memory + (v.unit(i / units, row_ / 8 + i % units) - b_.base)) = uint4{};
    __syncwarp();
    const float nan = __int_as_float(0x7fffffff);
#pragma unroll
    for (int m = 0; m < blocks; ++m) {
#pragma unroll
      for (int t = 0; t < halves; ++t)
#pragma unroll
        for (int x = 0; x < 8; ++x)
          if (16 * t + block_column(lane_, x / 4, x % 4) >= first) o[m][t].half[x / 4][x % 4] = nan;
#pragma unroll
      for (int j = 0; j < steps; ++j)
#pragma unroll
        for (int x = 0; x < 8; ++x) state_[m][j].half[x / 4][x % 4] = nan;
    }
  }

  __device__ void fold(const chunk_place<L>& place) {
    const swizzled_tile q = b_.q(place.stage), v = b_.v(place.stage);
    const auto& scalars = b_.scalars(place.slot);
    block o[blocks][halves] = {}, sum[blocks][halves] = {};
    const bool fine = finite(v);
    read(q, b_.c(place.stage), scalars.decay, b_.decay(place.slot), o, sum);
    if (!fine) end_values(v, o);
    tokens r, written, update, values, gain;
    if constexpr (L::two) {
#pragma unroll
      for (int t = 0; t < halves; ++t)
#pragma unroll
        for (int m = 0; m < blocks; ++m) values[m][t] = left_turned(v, 16 * t, row_ + 16 * m);
      erased(place, scalars, sum, values, r);
      gains(scalars, values, gain);
    } else {
      residual(v, scalars, sum, r);
    }
    solve(place, scalars, r, written, update);

    const padded_tile pairs = b_.pairs(place.slot);
#pragma unroll
    for (int t = 0; t < halves; ++t) {
      columns by(scalars.read, lane_, t);
      if (t > 0)
        for (float2& x : by.half) x.x += scalars.poison, x.y += scalars.poison;
#pragma unroll
      for (int m = 0; m < blocks; ++m) scale(o[m][t], by);
#pragma unroll
      for (int s = 0; s <= t; ++s) {
        const fragment p = right(pairs, 16 * t, 16 * s);
#pragma unroll
        for (int m = 0; m < blocks; ++m) {
          o[m][t].template add_product<T>(written[m][s], p);
          if constexpr (L::two) o[m][t].template add_product<T>(values[m][s], right(b_.pairs(place.slot, 1), 16 * t, 16 * s));
        }
      }
#pragma unroll
      for (int m = 0; m < blocks; ++m) {
        if constexpr (has_output<P>) finish(place.n, t, m, v, o[m][t]);
        store_left_turned(v, 16 * t, row_ + 16 * m, o[m][t].template as_left<T>());
      }
    }
    if (!L::copies_out || b_.length(place.n) < C) store_rows(place.n, v);

    ptx::publish_to_copies();  // o leaves by the copy engine, from the place of v
    add(L::channels ? b_.tail(place.slot) : b_.k(place.stage), update);
    if constexpr (L::two) add(b_.tail(place.slot, 1), gain);
  }

  // S^T += U^T k
  __device__ void add(const swizzled_tile& writers, const tokens& u) {
#pragma unroll
    for (int j = 0; j < steps; ++j)
#pragma unroll
      for (int s = 0; s < halves; ++s) {
        const fragment b = right_turned(writers, 16 * s, 16 * j);
#pragma unroll
        for (int m = 0; m < blocks; ++m) state_[m][j].template add_product<T>(u[m][s], b);
      }
  }

  // The policy's last word on an output.
  __device__ void finish(int n, int t, int m, const swizzled_tile& v, block& o) const {
    const block x = block::of_left<T>(left_turned(v, 16 * t, row_ + 16 * m));
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int token = 16 * t + block_column(lane_, h, e);
        if (token >= b_.length(n)) continue;
        const row<P, T> at(job_.in, job_.x, b_.batch, b_.begin + n * C + token, b_.head);
        const lanes_of<P, float> gates = at.gates(job_.policy);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          lanes_of<P, float> lane = gates;
          for_each_member(lane, [&](float& to, auto i) {
            constexpr int member = static_cast<int>(i);
            if constexpr (member == L::form.v) to = x.half[h][2 * r + e];
            else if constexpr (role_of<P, i>.width == width::value_dim) to = at.template number<i>(b_.column + row_ + 16 * m + block_row(lane_, 2 * r));
          });
          o.half[h][2 * r + e] = job_.policy.template output<float>(lane, o.half[h][2 * r + e]);
        }
      }
  }

  // The copy engine would write rows past the sequence's end, all columns of the tile, and every micro-step.
  __device__ void store_rows(int n, const swizzled_tile& v) const {
    if (!job_.o) return;
    __syncwarp();
    constexpr int units = X.chain_rows / 8;
    const index first = (b_.begin + n * C) / b_.micro;
    for (int i = lane_; i < b_.length(n) / b_.micro * units; i += 32) {
      const int r = i / units, u = row_ / 8 + i % units;
      T* const to = job_.o + b_.batch * job_.o_stride[0] + (first + r) * job_.o_stride[1] + b_.head * job_.o_stride[2] + b_.column + 8 * u;
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(b_.memory + (v.unit(r * b_.micro + b_.micro - 1, u) - b_.base));
    }
  }

  const tensor_job<P, T>& job_;
  const B& b_;
  int lane_, row_;
  block state_[blocks][steps];
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
