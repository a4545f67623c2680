// Attention on a GPU: median times beside the floor max(flops / peak, bytes / bandwidth), with the bandwidth of a copy that the same process
// measures. bf16, random data. A decode step is timed as a graph replays it.
//   cuda_attention_bench [--quick]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <weft/cuda.hpp>

namespace {

using weft::bf16, weft::index;

__global__ void fill_kernel(bf16* p, index n, unsigned seed) {
  const index step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ull + (static_cast<std::uint64_t>(seed) << 40);
    x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull, x ^= x >> 33;
    p[i] = bf16(static_cast<float>(static_cast<std::uint32_t>(x)) * 8e-10f - 1.7f);  // variance 1
  }
}
weft::device_array<bf16, 4> numbers(std::array<index, 4> extents) {
  static unsigned seed = 1;
  weft::device_array<bf16, 4> a(nullptr, extents);
  weft::launch("fill_kernel", fill_kernel, 2048, 256, 0, nullptr, a.data(), a.size(), seed++);
  return a;
}

class machine {
 public:
  weft::cuda gpu;
  double bandwidth = 0;  // bytes a second, read and written
  double peak = 751e12;  // bf16 flops a second of a large matrix product on this kind of card
  int times = 25;

  machine() {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
    const std::size_t n = std::size_t{2} << 30;
    weft::device_array<char, 1> a(nullptr, {static_cast<index>(n)}), b(nullptr, {static_cast<index>(n)});
    bandwidth = 2.0 * static_cast<double>(n) / (1e-3 * median([&] { cudaMemcpyAsync(b.data(), a.data(), n, cudaMemcpyDeviceToDevice, nullptr); }));
    std::printf("copy %.3f TB/s, %d multiprocessors\n", bandwidth * 1e-12, gpu.multiprocessors());
  }
  // Milliseconds of a call.
  template <class F>
  double median(F&& f) {
    for (int i = 0; i < 3; ++i) f();
    std::vector<float> all;
    for (int i = 0; i < times; ++i) {
      cudaEventRecord(begin_);
      f();
      cudaEventRecord(end_);
      weft::check_cuda(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float ms = 0;
      cudaEventElapsedTime(&ms, begin_, end_);
      all.push_back(ms);
    }
    std::sort(all.begin(), all.end());
    return static_cast<double>(all[all.size() / 2]);
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

struct shape {
  index B, T, HQ, H, D;
};

void print(const char* verb, const std::string& name, const shape& s, double ms, double flops, double bytes, const machine& here) {
  const double by_flops = flops / here.peak * 1e3, by_bytes = bytes / here.bandwidth * 1e3, floor = std::max(by_flops, by_bytes);
  std::printf("%-5s %-14s %3lld x %6lld x %2lld/%-2lld, %3lld  %8.4f ms  %6.1f TFLOP/s %6.0f GB/s  floor %7.4f (%s)  %5.1f %%\n", verb, name.c_str(), static_cast<long long>(s.B),
              static_cast<long long>(s.T), static_cast<long long>(s.HQ), static_cast<long long>(s.H), static_cast<long long>(s.D), ms, flops / ms * 1e-9, bytes / ms * 1e-6, floor,
              by_bytes > by_flops ? "bytes" : "flops", 100 * floor / ms);
  std::fflush(stdout);
}

// A prefill from an empty cache of no slots more than it needs.
template <class Selector>
void time_scan(machine& here, const std::string& name, Selector select, const shape& s, index keys_a_query) {
  const weft::attention<bf16, Selector> mixer{.select = select};
  const auto q = numbers({s.B, s.T, s.HQ, s.D}), k = numbers({s.B, s.T, s.H, s.D}), v = numbers({s.B, s.T, s.H, s.D});
  weft::device_array<bf16, 4> o(nullptr, {s.B, s.T, s.HQ, s.D});
  const auto start = weft::copy(here.gpu, mixer.state({.batch = s.B, .heads = s.H, .key_dim = s.D, .value_dim = s.D, .capacity = s.T}));
  auto cache = start;
  const double w = static_cast<double>(std::min(keys_a_query, s.T)), t = static_cast<double>(s.T);
  const double pairs = w * (w + 1) / 2 + (t - w) * w, flops = 4.0 * static_cast<double>(s.B * s.HQ * s.D) * pairs;
  const double bytes = 2.0 * static_cast<double>(s.B * s.T * s.D * (2 * s.HQ + 2 * s.H));
  const double ms = here.median([&] {
    cudaMemsetAsync(cache.length.data(), 0, cache.length.bytes(), nullptr);
    cache.known = start.known;
    weft::scan(here.gpu, mixer, {.q = q, .k = k, .v = v}, cache, {.o = o});
  });
  print("scan", name, s, ms, flops, bytes, here);
}

// One token on `keys` cached ones, which grow with every call.
void time_step(machine& here, const shape& s, index keys) {
  const weft::attention<bf16> mixer;
  const auto q = numbers({s.B, 1, s.HQ, s.D}), k = numbers({s.B, 1, s.H, s.D}), v = numbers({s.B, 1, s.H, s.D});
  weft::device_array<bf16, 4> o(nullptr, {s.B, 1, s.HQ, s.D});
  auto cache = weft::copy(here.gpu, mixer.state({.batch = s.B, .heads = s.H, .key_dim = s.D, .value_dim = s.D, .capacity = 1}));
  cache.keys = numbers({s.B, s.H, keys + 100, s.D});
  cache.values = numbers({s.B, s.H, keys + 100, s.D});
  weft::array<std::int64_t, 1> length({s.B});
  std::fill_n(length.data(), s.B, keys);
  cache.length = weft::copy(here.gpu, length);
  cache.known.held.clear();
  const double flops = 4.0 * static_cast<double>(s.B * s.HQ * s.D * keys), bytes = 4.0 * static_cast<double>(s.B * s.H * s.D * keys);
  const auto step = [&](weft::cuda& on) { weft::step(on, mixer, {.q = q, .k = k, .v = v}, cache, {.o = o}); };
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  weft::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  weft::cuda own(stream);
  step(own);
  weft::check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  step(own);
  weft::check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  weft::check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  own.synchronize();
  const double ms = here.median([&] { cudaGraphLaunch(executable, nullptr); });
  print("step", "dense", s, ms, flops, bytes, here);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaDeviceSynchronize();
  cudaStreamDestroy(stream);
}

}  // namespace

int main(int count, char** arguments) try {
  machine here;
  if (count > 1 && std::strcmp(arguments[1], "--quick") == 0) here.times = 7;
  for (const shape& s : {shape{1, 16384, 16, 16, 128}, {2, 8192, 16, 16, 128}, {8, 2048, 16, 16, 128}, {1, 16384, 32, 8, 128}, {1, 16384, 32, 32, 64}}) time_scan(here, "dense", weft::dense{}, s, s.T);
  for (const shape& s : {shape{1, 16384, 16, 16, 128}, {1, 16384, 32, 32, 64}}) time_scan(here, "window 1024", weft::window{.window = 1024}, s, 1024);
  for (const weft::index b : {1, 16, 32, 64}) time_step(here, {b, 1, 32, 8, 128}, 8192);
  time_step(here, {16, 1, 32, 32, 128}, 8192);
  time_step(here, {64, 1, 32, 8, 64}, 8192);
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
