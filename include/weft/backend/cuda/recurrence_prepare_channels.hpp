// The prepare warps where every key channel decays. Pairs are sums of x_t[d] y_s[d] exp(G_t - G_s)[d]: the tokens between are
// split in the middle, 16 by 16, 8 by 8 and so on, and each side is scaled by what is lost from the middle on. The factors are
// running products of alpha = exp(g) <= 1, never exponentials of differences: no exponent is positive, -inf is exact.
// q and the erase reader are rewritten to what they lose since the chunk's start, in place; the writers' tail is a tile more.
#pragma once
#include "quick.hpp"
#include "recurrence_prepare.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class P, class T, int K, tensor_tuning X>
class prepare_channels : public prepare_base<prepare_channels<P, T, K, X>, P, T, K, X> {
  using base = prepare_base<prepare_channels, P, T, K, X>;
  using typename base::B, typename base::L, typename base::factors;
  using base::C, base::form, base::steps, base::b_, base::lane_, base::half_, base::group_, base::place_, base::below_, base::decays, base::diagonal, base::put, base::maps_;

 public:
  using base::base;

  // The gates of chunk n: 32 tokens of 32 channels a box.
  __device__ void load_gates(int n) const {
    if (n >= b_.chunks || half_ != 1 || lane_ != 0) return;
    ptx::arrive_expecting(b_.gates_loaded(group_), L::gate_bytes);
    for (int c = 0; c < K; c += 32)
      ptx::tensor_load(b_.base + static_cast<word>(gate_tile() + c * C * 4), &maps_.g, c, b_.head, static_cast<int>(b_.begin) + n * C, static_cast<int>(b_.batch), b_.gates_loaded(group_));
  }

  __device__ void prepare(int n, const lanes_of<P, float>& raw) {
    factors f = n * C + lane_ < b_.tokens ? this->factors_of(raw) : factors{};
    if constexpr (form.b >= 0 || L::makes_z) fetch_ahead(n + L::groups);
    B::wait(b_.loaded(n), n);
    ptx::wait(b_.gates_loaded(group_), static_cast<word>(n / L::groups & 1));
    if (b_.length(n) < C) {
      this->clear_tail(n);
      clear_gates(b_.length(n), C, half_ * 32 + lane_, 32 * L::halves);
    }
    this->sync_group();
    if constexpr (L::makes_z) make_values(n);
    int end = C;  // of the warp's numbers
    if (this->watch_) {
      __syncwarp();
      end = this->end_of_numbers(f, !gates_finite(n, f.g));
      clear_gates(end, 16 * half_ + 16, lane_, 32);
      __syncwarp();
    }
    sum_half(f.g);
    this->sync_group();
    if (this->watch_) end = this->end_for_outputs(end);
    if (half_ == 0)
      for (int c = lane_; c < K; c += 32) b_.decay(place_.slot)[c] = totals(0)[c] * totals(1)[c];

    octets sums[writer_count];
    walk(n, f.g, end, sums);
    if (this->job_.x.unit) unit_lengths(sums[0], f);
    __syncwarp();
    decays()[C + lane_] = L::two ? f.p : f.k * (L::erases ? 1.f : f.z);
    if constexpr (L::two) decays()[lane_] = f.k * f.z;
    publish_scalars(f);
    this->publish_end(end);
    ptx::publish_to_copies();
    this->sync_group();
    block of_c[writer_count] = {}, of_q[writer_count] = {};
    if (half_ == 1) {
      across(of_c, of_q);
      ptx::publish_to_copies();
      __syncwarp();
      load_gates(n + L::groups);
    }
    write_pairs<0>(f, sums[0], of_c[0], of_q[0]);
    if constexpr (L::two) write_pairs<1>(f, sums[1], of_c[1], of_q[1]);
    if constexpr (L::erases) {
      __syncwarp();
      this->invert_diagonal();
      this->sync_group();
      if (half_ == 0) this->invert_below();
    }
    ptx::arrive(b_.prepared(n));
  }

 private:
  static constexpr bool exclusive = P::axes.read == read::exclusive_bonus;
  static constexpr bool late = exclusive || base::pre;  // decays count from the token after: for q of an inclusive read its own too
  static constexpr int writer_count = L::two ? 2 : 1;   // k; or p, which has the inverse, and k

  // Products within the warp's 16 tokens, by octets of them: rows 0-7 of an accumulator are the erase readers, rows 8-15
  // q; columns are a writer's. level[l] holds where the tokens' numbers differ in bit l at most, `same` each with its own octet
  // without decay (and rows 0-7 the writers), `between` the second octet with the first; `readers` is q with itself, where its length is wanted.
  struct octets {
    float same[2][4] = {}, level[3][2][4] = {}, between[4] = {}, readers[2][4] = {};
  };

  __device__ int gate_tile() const { return L::gates + group_ * L::gate_bytes; }
  __device__ float* totals(int half) const {
    return reinterpret_cast<float*>(b_.memory + L::scratch + L::scratch_turns * group_ * L::group_bytes + L::totals) + half * K;
  }
  __device__ swizzled_tile writers(int which) const {
    return {b_.base + static_cast<word>(L::scratch + L::scratch_turns * group_ * L::group_bytes + L::writers + which * 16 * K * 2), 16, b_.swizzled};
  }
  // 16 bytes of the gates at (token, channel).
  __device__ unsigned char* gate(int token, int channel) const {
    return b_.memory + gate_tile() + channel / 32 * C * 128 + token * 128 + ((channel / 4 ^ token) & 7) * 16;
  }

  __device__ void clear_gates(int first, int end, int thread, int threads) const {
#pragma unroll 1
    for (int i = thread; i < (end - first) * K / 4; i += threads) *reinterpret_cast<float4*>(gate(first + i / (K / 4), i % (K / 4) * 4)) = float4{};
  }
  // Of the lane's token, where it is one of the warp's, and the one more input. Minus infinity is a gate like any other.
  __device__ bool gates_finite(int n, float scale) const {
    bool finite = true;
    if (lane_ / 16 != half_ || lane_ >= b_.length(n)) return true;
#pragma unroll 1
    for (int c = 0; c < K; ++c) {
      finite &= *reinterpret_cast<const float*>(gate(lane_, c) + c % 4 * 4) * scale < INFINITY;
      if constexpr (form.b >= 0) finite &= 0.f * more_of(n, lane_)[c] == 0.f;
    }
    return finite;
  }

  __device__ void publish_scalars(const factors& f) const {
    if (lane_ / 16 != half_) return;
    auto& s = b_.scalars(place_.slot);
    if constexpr (L::erases) s.erase[lane_] = f.c, s.value[lane_] = f.z;
    s.read[lane_] = f.q;
    s.write[lane_] = L::two ? -f.p : f.k * (L::erases ? 1.f : f.z);
    if constexpr (L::two) s.gain[lane_] = f.k * f.z;
  }

  // Scales the factors of the warp's own tokens by 1 / length; squares are on the diagonals.
  __device__ void unit_lengths(const octets& sums, factors& f) const {
    const int g = lane_ / 4;
    if (lane_ % 4 == g / 2)
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        decays()[16 * half_ + 8 * x + g] = rsqrtf((g % 2 ? sums.readers[x][1] : sums.readers[x][0]) + this->job_.x.l2norm_eps);
        decays()[C + 16 * half_ + 8 * x + g] = rsqrtf((g % 2 ? sums.same[x][1] : sums.same[x][0]) + this->job_.x.l2norm_eps);
      }
    __syncwarp();
    if constexpr (is_unit_key<P>(base::form.q)) f.q *= decays()[lane_];
    if constexpr (is_unit_key<P>(base::form.k)) f.k *= decays()[C + lane_], f.c *= decays()[C + lane_];
    __syncwarp();
  }

  // exp of the sum of the half's decays, four channels a lane.
  __device__ void sum_half(float scale) const {
    float4 sum{};
#pragma unroll
    for (int r = 0; r < 16; ++r) {
      const float by = __shfl_sync(~0u, scale, 16 * half_ + r);
      const float4 g = *reinterpret_cast<const float4*>(gate(16 * half_ + r, 4 * lane_ % K));
      sum.x += g.x * by, sum.y += g.y * by, sum.z += g.z * by, sum.w += g.w * by;
    }
    if (4 * lane_ < K) *reinterpret_cast<float4*>(totals(half_) + 4 * lane_) = {ptx::exp2(sum.x), ptx::exp2(sum.y), ptx::exp2(sum.z), ptx::exp2(sum.w)};
  }

  static __device__ fragment scaled(const fragment& x, const float2 (&by)[4]) {
    fragment r;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float2 v = ptx::unpack<T>(x.w[w]);
      r.w[w] = ptx::pack<T>(v.x * by[w].x, v.y * by[w].y);
    }
    return r;
  }
  // By factors that are rounded first: a third of the instructions.
  static __device__ fragment rounded(const float2 (&x)[4]) {
    fragment r;
#pragma unroll
    for (int w = 0; w < 4; ++w) r.w[w] = ptx::pack<T>(x[w].x, x[w].y);
    return r;
  }
  static __device__ fragment times(const fragment& x, const fragment& by) {
    fragment r;
#pragma unroll
    for (int w = 0; w < 4; ++w) r.w[w] = ptx::multiply<T>(x.w[w], by.w[w]);
    return r;
  }

  // What the policy makes of channels c + 8 (w / 2) + 2i and the next, for the rows of a fragment's words: f of its terms.
  template <class F>
  __device__ fragment made(int c, const fragment& q, const fragment& k, const float2 (&g)[4], const float2 (&b)[4], F&& f) const {
    fragment r;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int channel = c + 8 * (w / 2) + 2 * (lane_ % 4);
      const float2 of_q = ptx::unpack<T>(q.w[w]), of_k = ptx::unpack<T>(k.w[w]);
      r.w[w] = ptx::pack<T>(f(terms(channel, of_q.x, of_k.x, g[w].x, b[w].x)).x, f(terms(channel + 1, of_q.y, of_k.y, g[w].y, b[w].y)).x);
    }
    return r;
  }
  __device__ key_terms<quick> terms(int channel, float q, float k, float g, float b) const {
    lanes_of<P, quick> lane{};
    auto members = tie_members(lane);
    const int head = b_.head;
    for_each_member(this->job_.in, [&](const auto& v, auto m) {
      constexpr role what = role_of<P, m>;
      if constexpr (what.width == width::key_dim && !what.time) std::get<m>(members) = quick(static_cast<float>(v.data[head * v.stride[0] + channel]));
    });
    std::get<form.q>(members) = quick(q), std::get<form.g>(members) = quick(g);
    if constexpr (L::loads_k) std::get<form.k>(members) = quick(k);
    if constexpr (form.b >= 0) std::get<form.b>(members) = quick(b);
    return this->job_.policy.template key_side<quick>(lane);
  }

  // The one more input of a token of chunk n.
  __device__ const float* more_of(int n, int token) const {
    const auto& v = std::get<form.b>(tie_members(this->job_.in));
    const int head = std::remove_cvref_t<decltype(v)>::role.heads == per_head::key ? b_.key_head : b_.head;
    return v.data + b_.batch * v.stride[0] + (b_.begin + n * C + token) * v.stride[1] + head * v.stride[2];
  }
  // The lane's rows of it for a fragment's words, from the lane's channels on; null where there is none.
  struct more_rows {
    const float* row[2] = {};
  };
  __device__ more_rows rows_of_more(int n, int end) const {
    more_rows r;
    if constexpr (form.b >= 0)
      for (int i = 0; i < 2; ++i) {
        const int t = 16 * half_ + lane_ / 4 + 8 * i;
        if (t < ::min(b_.length(n), end)) r.row[i] = more_of(n, t) + 2 * (lane_ % 4);
      }
    return r;
  }
  // Channels 16 j + 8 (w / 2) + 2i and the next.
  __device__ void load_more(const more_rows& from, int j, float2 (&to)[4]) const {
    if constexpr (form.b >= 0) {
#pragma unroll
      for (int w = 0; w < 4; ++w)
        to[w] = from.row[w % 2] && j < steps ? *reinterpret_cast<const float2*>(from.row[w % 2] + 16 * j + 8 * (w / 2)) : float2{};
    }
  }

  // What is read straight from memory, brought nearer a chunk ahead: by the lines of the warp's tokens.
  __device__ void fetch_ahead(int n) const {
    const int rows = ::min(b_.tokens - n * C - 16 * half_, 16), lane = lane_;
    const index token = b_.begin + n * C + 16 * half_, batch = b_.batch;
    const int head = b_.head, key_head = b_.key_head, column = b_.column;
    for_each_member(this->job_.in, [&](const auto& v, auto m) {
      constexpr role what = std::remove_cvref_t<decltype(v)>::role;
      constexpr int i = static_cast<int>(m), wide = what.width == width::key_dim ? K : L::columns;
      if constexpr (i == L::form.b || (L::makes_z && what.time && what.wide && what.width == width::value_dim))
        for (int line = lane; line < rows * (wide / 32); line += 32)
          ptx::fetch_ahead(v.data + batch * v.stride[0] + (token + line / (wide / 32)) * v.stride[1] + (what.heads == per_head::key ? key_head : head) * v.stride[2] +
                           (what.width == width::key_dim ? 0 : column) + line % (wide / 32) * 32);
    });
  }

  // z in the place of v, for the warp's tokens: the inputs of eight of them come together.
  __device__ void make_values(int n) const {
    const swizzled_tile v = b_.v(place_.stage);
    constexpr int pairs = L::columns / 64, batch = 8;
    const int length = b_.length(n);
#pragma unroll 1
    for (int first = 16 * half_; first < 16 * half_ + 16 && first < length; first += batch) {
      lanes_of<P, float> lane[batch][pairs][2];
#pragma unroll
      for (int j = 0; j < batch; ++j) {
        const row<P, T> at(this->job_.in, this->job_.x, b_.batch, b_.begin + n * C + ::min(first + j, length - 1), b_.head);
        const lanes_of<P, float> gates = at.gates(this->job_.policy);
#pragma unroll
        for (int x = 0; x < 2 * pairs; ++x) lane[j][x / 2][x % 2] = at.template lanes<width::value_dim>(gates, b_.column + 2 * lane_ + 64 * (x / 2) + x % 2);
      }
#pragma unroll
      for (int j = 0; j < batch; ++j)
#pragma unroll
        for (int p = 0; p < pairs; ++p) {
          if (first + j >= length) continue;
          const word place = v.unit(first + j, lane_ / 4 + 8 * p) + static_cast<word>(lane_ % 4 * 4);
          const float2 from = ptx::unpack<T>(*reinterpret_cast<const word*>(b_.memory + (place - b_.base)));
          auto& two = lane[j][p];
          std::get<form.v>(tie_members(two[0])) = from.x, std::get<form.v>(tie_members(two[1])) = from.y;
          put(place, ptx::pack<T>(this->job_.policy.template write<float>(two[0]), this->job_.policy.template write<float>(two[1])));
        }
    }
  }

  // Goes through the channels, 16 at a time: the products within the warp's tokens, and the rewritten tiles.
  __device__ void walk(int n, float scale, int end, octets (&sums)[writer_count]) const {
    const int g = lane_ / 4, i = lane_ % 4;
    const swizzled_tile c_tile = b_.c(place_.stage), q_tile = b_.q(place_.stage);
    const float by[2] = {__shfl_sync(~0u, scale, 16 * half_ + g), __shfl_sync(~0u, scale, 16 * half_ + g + 8)};
    float2 more[2][4] = {};  // a box ahead
    const more_rows rows = rows_of_more(n, end);
    for (int part = 0; part < 2; ++part) load_more(rows, part, more[part]);
#pragma unroll 1
    for (int box = 0; box < K / 32; ++box) {
      fragment readers[2][2];  // of the second half, for across(): kept where its gates were
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const int c = 32 * box + 16 * part;
        // Word w of a fragment: row g + 8 (w % 2), channels c + 8 (w / 2) + 2i and the next.
        float2 gates[4];
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const int channel = c + 8 * (w / 2) + 2 * i;
          gates[w] = *reinterpret_cast<const float2*>(gate(16 * half_ + g + 8 * (w % 2), channel) + channel % 4 * 4);
        }
        const fragment q = left(q_tile, 16 * half_, c);
        fragment k{};
        if constexpr (L::loads_k) k = left(b_.k(place_.stage), 16 * half_, c);
        else k = made(c, q, k, gates, more[part], [](const auto& side) { return side.k; });
        fragment eraser = k, writer[writer_count] = {k};
        if constexpr (L::makes_c) eraser = made(c, q, k, gates, more[part], [](const auto& side) { return side.c; });
        if constexpr (L::loads_c) eraser = left(c_tile, 16 * half_, c);
        if constexpr (L::two) writer[0] = left(b_.p(place_.stage), 16 * half_, c), writer[1] = k;
        load_more(rows, 2 * box + 2 + part, more[part]);
        // What is lost since the block's start (by the reader's own decay too, where it reads after it); until its end; in all.
        float2 before[4], after[4], all[4], mine[4];
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          all[w] = mine[w] = {ptx::exp2(gates[w].x * by[w % 2]), ptx::exp2(gates[w].y * by[w % 2])};
          before[w] = late ? float2{1.f, 1.f} : all[w];
          after[w] = {1.f, 1.f};
        }
        const fragment own = exclusive ? made(c, q, k, gates, more[part], [](const auto& side) { return side.q * side.u; }) : q;
        const auto of_q = [&](int w) {
          if constexpr (late && !exclusive) return float2{before[w].x * mine[w].x, before[w].y * mine[w].y};
          else return before[w];
        };
        const auto q_before = [&](auto&& f) {
          const float2 all_four[4] = {of_q(0), of_q(1), of_q(2), of_q(3)};
          return f(all_four);
        };
#pragma unroll
        for (int x = 0; x < 2; ++x) {
#pragma unroll
          for (int v = 0; v < writer_count; ++v)
            product(sums[v].same[x], writer[v].w[x], own.w[x], writer[v].w[2 + x], own.w[2 + x], writer[v].w[x], writer[v].w[2 + x]);
          if (this->job_.x.unit) product(sums[0].readers[x], q.w[x], q.w[x], q.w[2 + x], q.w[2 + x], q.w[x], q.w[2 + x]);
        }
        fragment cf{}, qf, kf[writer_count];
        const auto factored = [&] {
          const fragment b = rounded(before), a = rounded(after);
          qf = times(q, late && !exclusive ? q_before([](const auto& f) { return rounded(f); }) : b);
          if constexpr (L::erases) cf = times(eraser, b);
#pragma unroll
          for (int v = 0; v < writer_count; ++v) kf[v] = times(writer[v], a);
        };
#pragma unroll
        for (int level = 0; level < 3; ++level) {
          const bool second = g >> level & 1;
          factored();
#pragma unroll
          for (int x = 0; x < 2; ++x)
#pragma unroll
            for (int v = 0; v < writer_count; ++v) product(sums[v].level[level][x], cf.w[x], qf.w[x], cf.w[2 + x], qf.w[2 + x], kf[v].w[x], kf[v].w[2 + x]);
#pragma unroll
          for (int w = 0; w < 4; ++w) {
            const float2 other = {__shfl_xor_sync(~0u, all[w].x, 4 << level), __shfl_xor_sync(~0u, all[w].y, 4 << level)};
            grow(before[w], after[w], other, second);
            all[w].x *= other.x, all[w].y *= other.y;
          }
        }
        factored();
#pragma unroll
        for (int v = 0; v < writer_count; ++v) product(sums[v].between, cf.w[1], qf.w[1], cf.w[3], qf.w[3], kf[v].w[0], kf[v].w[2]);
#pragma unroll
        for (int w = 0; w < 4; ++w) grow(before[w], after[w], all[w ^ 1], w % 2);

        // Of the half; then of the chunk.
        const fragment q_since = q_before([&](const auto& f) { return scaled(q, f); }), c_since = L::erases ? scaled(eraser, before) : fragment{};
        float2 other[4];
#pragma unroll
        for (int w = 0; w < 4; ++w) other[w] = *reinterpret_cast<const float2*>(totals(1 - half_) + c + 8 * (w / 2) + 2 * i);
        if (half_ == 0) {
#pragma unroll
          for (int v = 0; v < writer_count; ++v) store_left(writers(v), 0, c, times(writer[v], rounded(after)));
#pragma unroll
          for (int w = 0; w < 4; ++w) after[w].x *= other[w].x, after[w].y *= other[w].y;
          if constexpr (L::erases) store_left(c_tile, 0, c, c_since);
          store_left(q_tile, 0, c, q_since);
        } else {
          readers[part][0] = c_since, readers[part][1] = q_since;
          const fragment first = rounded(other);
          if constexpr (L::erases) store_left(c_tile, 16, c, times(c_since, first));
          store_left(q_tile, 16, c, times(q_since, first));
        }
#pragma unroll
        for (int v = 0; v < writer_count; ++v) store_left(b_.tail(place_.slot, v), 16 * half_, c, scaled(writer[v], after));
      }
      if (half_ == 1) {
        __syncwarp();  // all lanes have read these gates
#pragma unroll
        for (int part = 0; part < 2; ++part)
#pragma unroll
          for (int e = 0; e < 2; ++e) *kept(2 * box + part, e) = {readers[part][e].w[0], readers[part][e].w[1], readers[part][e].w[2], readers[part][e].w[3]};
      }
    }
  }
  // The block of twice the size: the second part loses what the first did before, the first what the second does after.
  static __device__ void grow(float2& before, float2& after, float2 other, bool second) {
    if (second) before.x *= other.x, before.y *= other.y;
    else after.x *= other.x, after.y *= other.y;
  }
  // Rows 0-7 from k, 8-15 from q; columns from y.
  static __device__ void product(float (&sum)[4], word k0, word q0, word k1, word q1, word y0, word y1) {
    const word a[4] = {k0, q0, k1, q1};
    ptx::mma<T>(sum, a, y0, y1);
  }
  // A fragment of the second half's readers (0: k, 1: q) at channels 16 j, in the rows of its consumed gates.
  __device__ uint4* kept(int j, int which) const {
    return reinterpret_cast<uint4*>(b_.memory + gate_tile() + j / 2 * C * 128 + 16 * 128 + j % 2 * 1024 + which * 512) + lane_;
  }

  // The second half's tokens with the first's.
  __device__ void across(block (&of_c)[writer_count], block (&of_q)[writer_count]) const {
#pragma unroll
    for (int j = 0; j < steps; ++j) {
      const uint4 c = *kept(j, 0), q = *kept(j, 1);
#pragma unroll
      for (int v = 0; v < writer_count; ++v) {
        const fragment y = right(writers(v), 0, 16 * j);
        if constexpr (L::erases) of_c[v].template add_product<T>({{c.x, c.y, c.z, c.w}}, y);
        of_q[v].template add_product<T>({{q.x, q.y, q.z, q.w}}, y);
      }
    }
  }

  // P to the chain, T for the inverse (of v's own writer: to the chain), with the readers' and writers' factors.
  template <int Writer>
  __device__ void write_pairs(const factors& f, const octets& sums, const block& of_c, const block& of_q) const {
    const padded_tile pairs = b_.pairs(place_.slot, Writer), values = b_.erased_values(place_.slot);
    const int g = lane_ / 4, first = 16 * half_;
    const auto of_writer = [&](int s) {  // the first half's are the first warp's
      return reinterpret_cast<const float*>(this->mine_ - (s < first ? L::warp_bytes : 0))[(Writer == 0 ? C : 0) + s];
    };
    float reader[2], eraser[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      reader[r] = __shfl_sync(~0u, f.q, first + g + 8 * r) * (L::two && Writer == 0 ? -1.f : 1.f);
      eraser[r] = __shfl_sync(~0u, f.c, first + g + 8 * r);
    }
    const auto write = [&](int t, int s, float px, float py, float tx, float ty, int r) {  // tokens of the half; row r of the lane's two
      const float x = of_writer(first + s), y = of_writer(first + s + 1);
      put(pairs.element(first + t, first + s), ptx::pack<T>(px * reader[r] * x, py * reader[r] * y));
      tx *= eraser[r] * x, ty *= eraser[r] * y;
      if constexpr (Writer == 1) put(values.element(first + t, first + s), ptx::pack<T>(tx, ty));
      else if constexpr (L::erases) {
        float* const to = diagonal() + s * L::diagonal_stride + t;
        to[0] = tx, to[L::diagonal_stride] = ty;
      }
    };
    const int s = 2 * (lane_ % 4);
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      float p[2], t[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int differ = g ^ (s + e);
        const auto of = [&](int row) {  // numbers, not places: the sums stay in registers
          const float far = sums.level[2][x][row], near = sums.level[1][x][row], next = sums.level[0][x][row];
          return differ >= 4 ? far : differ >= 2 ? near : next;
        };
        p[e] = s + e < g ? of(2 + e) : s + e == g ? sums.same[x][2 + e] : 0.f;
        t[e] = s + e < g ? of(e) : 0.f;
      }
      write(g + 8 * x, s + 8 * x, p[0], p[1], t[0], t[1], x);
    }
    write(g + 8, s, sums.between[2], sums.between[3], sums.between[0], sums.between[1], 1);
    put(pairs.element(first + g, first + 8 + s), 0);
    if constexpr (Writer == 1) put(values.element(first + g, first + 8 + s), 0);
    if (half_ == 1) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int column = 8 * h + s;
          const float x = of_writer(column), y = of_writer(column + 1);
          put(pairs.element(16 + g + 8 * r, column), ptx::pack<T>(of_q.half[h][2 * r] * reader[r] * x, of_q.half[h][2 * r + 1] * reader[r] * y));
          const float tx = of_c.half[h][2 * r] * eraser[r] * x, ty = of_c.half[h][2 * r + 1] * eraser[r] * y;
          if constexpr (Writer == 1) put(values.element(16 + g + 8 * r, column), ptx::pack<T>(tx, ty));
          else if constexpr (L::erases) put(below_.element(g + 8 * r, column), ptx::pack<fp16>(tx, ty));
        }
    }
  }
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
