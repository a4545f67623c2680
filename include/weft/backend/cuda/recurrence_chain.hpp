// The chain warps of the tensor-core engine. Each holds S^T for its rows of value columns and all keys in accumulators; their
// layout is that of a left operand, so neither the state nor what is computed from it passes through shared memory, and the
// warps never wait for each other. Per chunk:
//   R^T = value o v^T - erase o (S^T c^T),  U^T = R^T A^T,  o^T = read o (S^T q^T) + U^T P^T,
//   S^T <- decay S^T + (write o U)^T k
#pragma once
#include "quick.hpp"
#include "recurrence_tensor_layout.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class P, class T, int K, tensor_tuning X>
class chain_warp {
  using L = tensor_layout<P, K, X>;
  using B = tensor_block<P, T, K, X>;
  static constexpr int C = X.chunk, steps = K / 16, halves = L::halves, outputs = L::outputs, blocks = L::blocks;

 public:
  __device__ chain_warp(const tensor_job<P, T>& job, const B& block, int warp)
      : job_(job), b_(block), lane_(block.swizzled.lane), row_(block.within + warp * X.chain_rows) {
    if constexpr (has_output<P>) {
      of_head_ = row<P, T>(job_.in, job_.x, b_.batch, b_.begin, b_.head).raw_gates();
      for_each_member(job_.in, [&](const auto& x, auto i) {
        if constexpr (is_more<i>) more_columns_ |= x.data != nullptr;
      });
    }
  }

  // Folds all chunks, from the state in memory.
  __device__ void run() {
    move_state([](float& here, float& there) { here = there; });
    for (auto place = chunk_place<L>::at(0); place.n < b_.chunks; place.advance(1)) {
      B::wait(b_.prepared(place.n), place.n);
      fold(place);
      ptx::arrive(b_.folded(place.n));
    }
  }
  // What is not finite never leaves the state again.
  __device__ bool finite() const {
    float zero = 0;
#pragma unroll
    for (int m = 0; m < blocks; ++m)
#pragma unroll
      for (int j = 0; j < steps; ++j)
#pragma unroll
        for (int x = 0; x < 8; ++x) zero = fmaf(state_[m][j].half[x / 4][x % 4], 0.f, zero);
    return zero == 0.f;
  }
  __device__ void store_state() {
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
  __device__ void read(const swizzled_tile& q, const swizzled_tile& c, float decay, const float* channel_decay, block (&of_q)[blocks][outputs], block (&of_c)[blocks][halves]) {
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
        if (t >= outputs) continue;
        const fragment b = right(q, 16 * t, 16 * j);
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

  __device__ void fold(const chunk_place<L>& place) {
    const swizzled_tile q = b_.q(place.stage), v = b_.v(place.stage);
    const auto& scalars = b_.scalars(place.slot);
    block o[blocks][outputs] = {}, sum[blocks][halves] = {};
    read(q, b_.c(place.stage), scalars.decay, b_.decay(place.slot), o, sum);
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
    for (int t = 0; t < outputs; ++t) {
      const columns by(scalars.read, lane_, t);
#pragma unroll
      for (int m = 0; m < blocks; ++m) scale(o[m][t], by);
#pragma unroll
      for (int s = 0; s < halves - outputs + 1 + t; ++s) {
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
    const auto row_at = [&](int h, int e) {
      const int token = ::min(16 * t + block_column(lane_, h, e), b_.length(n) - 1);  // past the end any is read, and not stored
      return row<P, T>(job_.in, job_.x, b_.batch, b_.begin + n * C + token, b_.head);
    };
    lanes_of<P, float> more[2][4] = {};
    if (more_columns_)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          for_each_member(more[h][i], [&](float& to, auto member) {
            if constexpr (is_more<member>) to = row_at(h, i % 2).template number<member>(b_.column + row_ + 16 * m + block_row(lane_, i));
          });
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        lanes_of<P, float> gates = of_head_;
        for_each_member(gates, [&](float& to, auto member) {
          if constexpr (role_of<P, member>.width == width::one && role_of<P, member>.time) to = row_at(h, i % 2).template number<member>(0);
        });
        gates = row<P, T>::activated(job_.policy, gates);
        lanes_of<P, quick> lane;
        auto numbers = tie_members(gates), others = tie_members(more[h][i]);
        for_each_member(lane, [&](quick& to, auto member) {
          to = quick(static_cast<int>(member) == L::form.v ? x.half[h][i] : is_more<member> ? std::get<member>(others) : std::get<member>(numbers));
        });
        o.half[h][i] = job_.policy.template output<quick>(lane, quick(o.half[h][i])).x;
      }
  }
  // An input of the column beside v.
  template <std::size_t I>
  static constexpr bool is_more = static_cast<int>(I) != L::form.v && role_of<P, I>.width == width::value_dim;

  const tensor_job<P, T>& job_;
  const B& b_;
  int lane_, row_;
  block state_[blocks][steps];
  lanes_of<P, float> of_head_;  // what finish() knows of the head
  bool more_columns_ = false;   // and whether it reads more than v
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
