#include "tiles.hpp"

#include <random>

#include <weft/backend/cuda/executor.hpp>
#include <weft/backend/cuda/tensor_map.hpp>
#include <weft/backend/cuda/tile.hpp>

namespace contract {
namespace {

using weft::bf16, weft::fp16, weft::index;
using namespace weft::device;
namespace ptx = weft::ptx;

// 32 x 128 numbers in shared memory, as the copy engine or threads bring them there.
constexpr int rows = 32, columns = 128;
struct space {
  alignas(1024) unsigned char swizzled[rows * columns * 2];
  alignas(16) unsigned char padded[rows * (columns * 2 + 16)];
  unsigned long long barrier;
};

__device__ ptx::word place(const swizzled_tile& t, int r, int c) { return t.unit(r, c / 8) + static_cast<ptx::word>(c % 8 * 2); }
__device__ ptx::word place(const padded_tile& t, int r, int c) { return t.element(r, c); }

template <class Tile, class T>
__device__ void fill(const Tile& t, const T* x) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += 32) {
    const int r = i / columns, c = i % columns;
    const ptx::word at = place(t, r, c);
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"(x[i].bits) : "memory");
  }
  __syncwarp();
}

// product[m][n] = sum over 16 k of (left operand) (right operand), for the four ways to get them from the tile at (16, 32)
// and (0, 80); and the left operand alone, through an identity.
template <class Tile, class T>
__device__ void operands(const Tile& t, float* out) {
  const fragment l[2] = {left(t, 16, 32), left_turned(t, 16, 32)}, r[2] = {right(t, 0, 80), right_turned(t, 0, 80)};
  const int lane = t.lanes.lane;
  for (int way = 0; way < 4; ++way) {
    weft::device::block b{};
    b.add_product<T>(l[way / 2], r[way % 2]);
    for (int h = 0; h < 2; ++h)
      for (int x = 0; x < 4; ++x) out[way * 256 + block_row(lane, x) * 16 + block_column(lane, h, x)] = b.half[h][x];
  }
}

template <class T>
__global__ void tile_kernel(const T* x, float* swizzled, float* padded) {
  __shared__ space s;
  const swizzled_tile a{ptx::shared_address(s.swizzled), rows, lane_parts::swizzled(ptx::lane())};
  const padded_tile b{ptx::shared_address(s.padded), columns * 2 + 16, lane_parts::padded(ptx::lane(), columns * 2 + 16)};
  fill(a, x);
  operands<swizzled_tile, T>(a, swizzled);
  fill(b, x);
  operands<padded_tile, T>(b, padded);
}

// Rounds a block to a left operand, stores it where left_turned takes from, and reads it back as numbers.
__global__ void store_kernel(const float* x, float* out) {
  __shared__ space s;
  const swizzled_tile t{ptx::shared_address(s.swizzled), rows, lane_parts::swizzled(ptx::lane())};
  const int lane = t.lanes.lane;
  weft::device::block b;
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < 4; ++i) b.half[h][i] = x[block_row(lane, i) * 16 + block_column(lane, h, i)];
  store_left_turned(t, 16, 64, b.as_left<bf16>());
  __syncwarp();
  const fragment f = left_turned(t, 16, 64);
  for (int w = 0; w < 4; ++w) {
    const float2 pair = ptx::unpack<bf16>(f.w[w]);
    out[block_row(lane, 2 * (w % 2)) * 16 + block_column(lane, w / 2, 0)] = pair.x;
    out[block_row(lane, 2 * (w % 2)) * 16 + block_column(lane, w / 2, 1)] = pair.y;
  }
}

// Loads a box of a strided tensor by the copy engine, and stores it to another.
__global__ void copy_kernel(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to, bf16* seen) {
  __shared__ space s;
  const swizzled_tile t{ptx::shared_address(s.swizzled), rows, lane_parts::swizzled(ptx::lane())};
  const ptx::word barrier = ptx::shared_address(&s.barrier);
  if (threadIdx.x == 0) {
    ptx::barrier_init(barrier, 1);
    ptx::barrier_init_done();
    ptx::arrive_expecting(barrier, rows * columns * 2);
    for (int c = 0; c < columns; c += 64) ptx::tensor_load(t.unit(0, c / 8), &from, c, 1, 3, 1, barrier);
  }
  __syncwarp();
  ptx::wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += 32)
    seen[i] = *reinterpret_cast<bf16*>(s.swizzled + (t.unit(i / columns, i % columns / 8) - t.base) + i % 8 * 2);
  ptx::publish_to_copies();
  __syncwarp();
  if (threadIdx.x == 0) {
    for (int c = 0; c < columns; c += 64) ptx::tensor_store(&to, t.unit(0, c / 8), c, 1, 3, 1);
    ptx::stores_read();
  }
}

class bench {
 public:
  weft::cuda gpu;
  weft::cpu host;
  std::vector<std::string> wrong;

  template <class T>
  weft::array<T, 1> numbers(index n) {
    weft::array<T, 1> a({n});
    for (index i = 0; i < n; ++i) a.data()[i] = T(static_cast<float>(static_cast<int>(random_() % 17) - 8));
    return a;
  }
  template <class T>
  weft::device_array<T, 1> room(index n) { return weft::device_array<T, 1>(gpu.stream(), {n}); }
  void expect(bool right, const std::string& name) {
    if (!right) wrong.push_back(name);
  }

 private:
  std::mt19937 random_{7};
};

template <class T>
void products(bench& b, const std::string& type) {
  const auto x = b.numbers<T>(rows * columns);
  const auto there = weft::copy(b.gpu, x);
  auto swizzled = b.room<float>(1024), padded = b.room<float>(1024);
  weft::launch("tile_kernel", tile_kernel<T>, 1, 32, 0, b.gpu.stream(), there.data(), swizzled.data(), padded.data());
  const auto s = weft::copy(b.host, swizzled), p = weft::copy(b.host, padded);
  const auto at = [&](int r, int c) { return static_cast<float>(x.data()[r * columns + c]); };
  const char* const names[] = {"left by right", "left by right_turned", "left_turned by right", "left_turned by right_turned"};
  for (int way = 0; way < 4; ++way) {
    bool right_s = true, right_p = true;
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += (way / 2 ? at(16 + k, 32 + m) : at(16 + m, 32 + k)) * (way % 2 ? at(k, 80 + n) : at(n, 80 + k));
        right_s &= s.data()[way * 256 + m * 16 + n] == sum;
        right_p &= p.data()[way * 256 + m * 16 + n] == sum;
      }
    b.expect(right_s, type + " swizzled " + names[way]);
    b.expect(right_p, type + " padded " + names[way]);
  }
}

void stores(bench& b) {
  const auto x = b.numbers<float>(256);
  auto out = b.room<float>(256);
  weft::launch("store_kernel", store_kernel, 1, 32, 0, b.gpu.stream(), weft::copy(b.gpu, x).data(), out.data());
  const auto got = weft::copy(b.host, out);
  b.expect(std::equal(x.data(), x.data() + 256, got.data()), "store_left_turned");
}

void copies(bench& b) {
  if (b.gpu.capability() != 90) return;
  // [batch 2, time 20, heads 3, 128] within rows of 3 * 128 + 64: the box of 32 tokens from token 3 on ends outside.
  const index time = 20, row = 3 * columns + 64;
  const auto x = b.numbers<bf16>(2 * time * row);
  auto from = weft::copy(b.gpu, x), to = b.room<bf16>(2 * time * row), seen = b.room<bf16>(rows * columns);
  const auto view = [&](auto& a) { return weft::view<bf16, 4>(a.data(), {2, time, 3, columns}, {time * row, row, columns, 1}); };
  b.expect(can_map(view(from)), "can_map of a strided view");
  b.expect(!can_map(weft::view<bf16, 4>(from.data() + 1, {2, time, 3, columns})), "can_map of a view that is not aligned");
  weft::launch("copy_kernel", copy_kernel, 1, 32, 0, b.gpu.stream(), map_rows("x", view(from), rows), map_rows("y", view(to), rows), seen.data());
  const auto tile = weft::copy(b.host, seen), out = weft::copy(b.host, to);
  bool loaded = true, stored = true;
  for (index r = 0; r < rows; ++r)
    for (index c = 0; c < columns; ++c) {
      const bool there = 3 + r < time;
      const index place = time * row + (3 + r) * row + columns + c;
      loaded &= static_cast<float>(tile.data()[r * columns + c]) == (there ? static_cast<float>(x.data()[place]) : 0.f);
      if (there) stored &= out.data()[place].bits == x.data()[place].bits;
    }
  index written = 0;
  for (index i = 0; i < out.size(); ++i) written += out.data()[i].bits != 0;
  b.expect(loaded, "tensor_load");
  b.expect(stored && written <= (time - 3) * columns, "tensor_store");
}

}  // namespace

std::vector<std::string> wrong_tiles() {
  bench b;
  products<bf16>(b, "bf16");
  products<fp16>(b, "fp16");
  stores(b);
  copies(b);
  return b.wrong;
}

}  // namespace contract
