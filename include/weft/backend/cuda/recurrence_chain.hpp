// The chain warps of the tensor-core engine. Each holds S^T for its rows of value columns and all keys in accumulators; their
// layout is that of a left operand, so neither the state nor what is computed from it passes through shared memory, and the
// warps never wait for each other. Per chunk:
//   R^T = value o v^T - erase o (S^T k^T),  U^T = R^T A^T,  o^T = read o (S^T q^T) + U^T P^T,
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
      : job_(job), b_(block), lane_(block.swizzled.lane), row_(warp * X.chain_rows) {}

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
    float* const matrix = job_.matrix + (b_.sequence * job_.x.value_heads + b_.head) * K * job_.x.value_dim + b_.column + row_;
#pragma unroll
    for (int m = 0; m < blocks; ++m)
#pragma unroll
      for (int j = 0; j < steps; ++j)
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int x = 0; x < 4; ++x) f(state_[m][j].half[h][x], matrix[(16 * j + block_column(lane_, h, x)) * job_.x.value_dim + 16 * m + block_row(lane_, x)]);
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

  // S^T q^T, and for an erase S^T k^T, for the chunk's tokens: the state is rounded to operands once, and is not needed after.
  __device__ void read(const swizzled_tile& q, const swizzled_tile& k, float decay, const float* channel_decay, block (&of_q)[blocks][halves], block (&of_k)[blocks][halves]) {
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
          const fragment b = right(k, 16 * t, 16 * j);
#pragma unroll
          for (int m = 0; m < blocks; ++m) of_k[m][t].template add_product<T>(s[m], b);
        }
        const fragment b = right(q, 16 * t, 16 * j);
#pragma unroll
        for (int m = 0; m < blocks; ++m) of_q[m][t].template add_product<T>(s[m], b);
      }
    }
  }

  // Rounds what a warp adds to the state. The error of a token's number is added to a later token's before that is rounded, so
  // that errors do not add up along keys that are alike; for others they are as they were.
  struct rounding {
    float carried[2] = {};
    __device__ word round(int row, float low, float high) {
      low += carried[row];
      const word r = ptx::pack<T>(low, high);
      const float2 kept = ptx::unpack<T>(r);
      carried[row] = (low - kept.x) + (high - kept.y);
      return r;
    }
    __device__ fragment round(const block& b) {
      fragment f;
      f.w[0] = round(0, b.half[0][0], b.half[0][1]), f.w[1] = round(1, b.half[0][2], b.half[0][3]);
      f.w[2] = round(0, b.half[1][0], b.half[1][1]), f.w[3] = round(1, b.half[1][2], b.half[1][3]);
      return f;
    }
  };

  __device__ void fold(const chunk_place<L>& place) {
    const swizzled_tile k = b_.k(place.stage), q = b_.q(place.stage), v = b_.v(place.stage);
    const chunk_scalars<C>& scalars = b_.scalars(place.slot);
    block o[blocks][halves] = {}, sum[blocks][halves] = {};
    read(q, k, scalars.decay, b_.decay(place.slot), o, sum);
    fragment written[blocks][halves], update[blocks][halves];  // U as o reads it, and times `write`
    if constexpr (L::erases) {
      fragment residual[blocks][halves];
#pragma unroll
      for (int t = 0; t < halves; ++t) {
        const columns erase(scalars.erase, lane_, t), value(scalars.value, lane_, t);
#pragma unroll
        for (int m = 0; m < blocks; ++m) {
          fragment& r = residual[m][t];
          r = left_turned(v, 16 * t, row_ + 16 * m);
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const float2 x = ptx::unpack<T>(r.w[2 * h + pair]);
              const float(&from)[4] = sum[m][t].half[h];
              r.w[2 * h + pair] = ptx::pack<T>(x.x * value.half[h].x - erase.half[h].x * from[2 * pair], x.y * value.half[h].y - erase.half[h].y * from[2 * pair + 1]);
            }
        }
      }
      const padded_tile inverse = b_.inverse(place.slot);
      rounding kept[blocks];
#pragma unroll
      for (int t = 0; t < halves; ++t) {
        block u[blocks] = {};
#pragma unroll
        for (int s = 0; s <= t; ++s) {
          const fragment a = right_turned(inverse, 16 * s, 16 * t);
#pragma unroll
          for (int m = 0; m < blocks; ++m) u[m].template add_product<T>(residual[m][s], a);
        }
        const columns write(scalars.write, lane_, t);
#pragma unroll
        for (int m = 0; m < blocks; ++m) {
          written[m][t] = u[m].template as_left<T>();
          scale(u[m], write);
          update[m][t] = kept[m].round(u[m]);
        }
      }
    } else {
      rounding kept[blocks];
#pragma unroll
      for (int t = 0; t < halves; ++t) {
        const columns write(scalars.write, lane_, t);
#pragma unroll
        for (int m = 0; m < blocks; ++m) {
          written[m][t] = left_turned(v, 16 * t, row_ + 16 * m);
          block u;
#pragma unroll
          for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int pair = 0; pair < 2; ++pair) {
              const float2 x = ptx::unpack<T>(written[m][t].w[2 * h + pair]);
              u.half[h][2 * pair] = x.x, u.half[h][2 * pair + 1] = x.y;
            }
          scale(u, write);
          update[m][t] = kept[m].round(u);
        }
      }
    }

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
        for (int m = 0; m < blocks; ++m) o[m][t].template add_product<T>(written[m][s], p);
      }
#pragma unroll
      for (int m = 0; m < blocks; ++m) store_left_turned(v, 16 * t, row_ + 16 * m, o[m][t].template as_left<T>());
    }
    if (b_.length(place.n) < C) store_tail(place.n, v);

    const swizzled_tile writers = L::channels ? b_.tail(place.slot) : k;
    ptx::publish_to_copies();  // o leaves by the copy engine, from the place of v
#pragma unroll
    for (int j = 0; j < steps; ++j)
#pragma unroll
      for (int s = 0; s < halves; ++s) {
        const fragment b = right_turned(writers, 16 * s, 16 * j);
#pragma unroll
        for (int m = 0; m < blocks; ++m) state_[m][j].template add_product<T>(update[m][s], b);
      }
  }

  // The copy engine would write rows past the sequence's end.
  __device__ void store_tail(int n, const swizzled_tile& v) const {
    __syncwarp();
    constexpr int units = X.chain_rows / 8;
    for (int i = lane_; i < b_.length(n) * units; i += 32) {
      const int r = i / units, u = row_ / 8 + i % units;
      T* const to = job_.o + b_.batch * job_.o_stride[0] + (b_.begin + n * C + r) * job_.o_stride[1] + b_.head * job_.o_stride[2] + b_.column + 8 * u;
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(b_.memory + (v.unit(r, u) - b_.base));
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
