// Recurrences on a GPU: median times of prefill, beside the floor max(flops / peak, bytes / bandwidth), with the bandwidth
// of a copy that the same process measures. bf16, random data, working sets far beyond the L2 cache.
//   cuda_bench [--quick]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <weft/cuda.hpp>

namespace {

using weft::bf16, weft::index;

__device__ float uniform(std::uint64_t i, unsigned seed) {
  std::uint64_t x = i * 0x9e3779b97f4a7c15ull + (static_cast<std::uint64_t>(seed) << 40);
  x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull, x ^= x >> 33;
  return (static_cast<float>(static_cast<std::uint32_t>(x)) + 0.5f) * 2.3283064e-10f;
}
template <class T>
__global__ void fill_kernel(T* p, index n, unsigned seed, float low, float high) {
  const index step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) p[i] = T(low + (high - low) * uniform(static_cast<std::uint64_t>(i), seed));
}

struct shape {
  index B, T, H, K, V, key_heads = 0;  // 0: as many
};

class stopwatch {
 public:
  explicit stopwatch(cudaStream_t stream) : stream_(stream) {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
  }
  // Median of the milliseconds of a call.
  template <class F>
  float median(int times, F&& f) {
    for (int i = 0; i < 3; ++i) f();
    std::vector<float> all;
    for (int i = 0; i < times; ++i) {
      cudaEventRecord(begin_, stream_);
      f();
      cudaEventRecord(end_, stream_);
      weft::check_cuda(cudaEventSynchronize(end_), "cudaEventSynchronize");
      float ms = 0;
      cudaEventElapsedTime(&ms, begin_, end_);
      all.push_back(ms);
    }
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

struct machine {
  cudaStream_t stream = [] {
    cudaStream_t s = nullptr;
    cudaStreamCreate(&s);  // what is not the default one can be captured
    return s;
  }();
  weft::cuda gpu{stream};
  stopwatch watch{stream};
  double bandwidth = 0;     // bytes a second, read and written
  double peak = 751e12;     // bf16 flops a second of a large matrix product on this kind of card
  int times = 25;

  machine() {
    const std::size_t n = std::size_t{2} << 30;
    weft::device_array<char, 1> a(nullptr, {static_cast<index>(n)}), b(nullptr, {static_cast<index>(n)});
    const float ms = watch.median(9, [&] { cudaMemcpyAsync(b.data(), a.data(), n, cudaMemcpyDeviceToDevice, stream); });
    bandwidth = 2.0 * static_cast<double>(n) / (ms * 1e-3);
    std::printf("copy %.3f TB/s, %d multiprocessors\n", bandwidth * 1e-12, gpu.multiprocessors());
  }
};

// Milliseconds of one of `count` calls that a graph replays.
template <class F>
float in_a_graph(machine& here, int count, F&& call) {
  const cudaStream_t stream = here.gpu.stream();
  call();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  weft::check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  for (int i = 0; i < count; ++i) call();
  weft::check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  weft::check_cuda(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  const float ms = here.watch.median(here.times, [&] { weft::check_cuda(cudaGraphLaunch(replay, stream), "cudaGraphLaunch"); });
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  return ms / static_cast<float>(count);
}

template <class T>
std::vector<double> numbers(const weft::device_array<T, 4>& a) {
  weft::cpu host;
  const auto copy = weft::copy(host, a);
  std::vector<double> v(static_cast<std::size_t>(copy.size()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(static_cast<float>(copy.data()[i]));
  return v;
}

// RMS of the difference between the verb's schedule and the token form on the first tokens, over RMS of the result.
template <class M>
double difference(machine& here, const M& mixer, typename M::inputs in, const shape& s) {
  using P = typename M::policy_type;
  using T = typename M::storage_type;
  const index time = std::min<index>(s.T, 300);
  weft::for_each_member(in, [&](auto& v, auto) {
    using view = std::remove_cvref_t<decltype(v)>;
    if constexpr (view::role.time)
      if (!v.null()) static_cast<typename view::base&>(v) = v.slice(0, 0, 1).slice(1, 0, view::role.micro ? time * mixer.micro_steps : time);
  });
  weft::device_array<T, 4> o(nullptr, {1, time, s.H, s.V}), plain = o;
  const auto start = weft::copy(here.gpu, mixer.state({.batch = 1, .heads = s.H, .key_dim = s.K, .value_dim = s.V}));
  auto a = start, b = start;
  const auto x = weft::check_recurrence(mixer, in, b, typename M::outputs{plain}, {});
  weft::scan(here.gpu, mixer, in, a, {.o = o});
  weft::device::run_tokens<P, T>(here.gpu, mixer, x, in, b, {.o = plain}, {});
  const auto got = numbers(o), expected = numbers(plain);
  double wrong = 0, right = 0;
  for (std::size_t i = 0; i < got.size(); ++i) wrong += (got[i] - expected[i]) * (got[i] - expected[i]), right += expected[i] * expected[i];
  return std::sqrt(wrong / right);
}

// Times a scan of `mixer`, or a step of one token; refuses where the scan is wrong.
template <class M>
void time_mixer(machine& here, const char* name, const M& mixer, const shape& s, bool step = false) {
  using P = typename M::policy_type;
  using T = typename M::storage_type;
  std::vector<weft::device_array<char, 1>> memory;
  double bytes = 0;
  typename M::inputs in;
  unsigned seed = 1;
  weft::for_each_member(in, [&](auto& v, auto i) {
    using view = std::remove_cvref_t<decltype(v)>;
    using element = std::remove_const_t<typename view::element>;
    constexpr weft::role what = view::role;
    constexpr weft::input_name called = weft::name_of<P>(i);
    if (called.optional && called.text != "g") return;
    std::array<index, view::rank> extents{};
    std::size_t at = 0;
    if (what.time) extents[at++] = s.B, extents[at++] = s.T * (what.micro ? mixer.micro_steps : 1);
    extents[at++] = what.heads == weft::per_head::key && s.key_heads > 0 ? s.key_heads : s.H;
    if (what.width != weft::width::one) extents[at] = what.width == weft::width::key_dim ? s.K : s.V;
    index n = 1;
    for (const index e : extents) n *= e;
    memory.emplace_back(nullptr, std::array<index, 1>{n * static_cast<index>(sizeof(element))});
    auto* const p = reinterpret_cast<element*>(memory.back().data());
    const bool decay = called.text == "g" || called.text == "A", gate = what.wide;
    const float width = what.width == weft::width::key_dim ? 1.7f / std::sqrt(static_cast<float>(s.K)) : 1.7f;
    const float low = decay ? -0.3f : gate ? 0.f : -width, high = decay ? 0.f : gate ? 1.f : width;
    weft::launch("fill_kernel", fill_kernel<element>, 2048, 256, 0, nullptr, p, n, seed++, low, high);
    bytes += static_cast<double>(n) * sizeof(element);
    v = weft::view<const element, view::rank>(p, extents);
  });
  if (const double d = step ? 0 : difference(here, mixer, in, s); !(d < 0.006)) {
    std::printf("scan  %-22s differs from the token form by %.2e\n", name, d);
    return;
  }
  weft::device_array<T, 4> o(nullptr, {s.B, s.T, s.H, s.V});
  bytes += static_cast<double>(o.bytes());
  weft::cuda& gpu = here.gpu;
  auto state = weft::copy(gpu, mixer.state({.batch = s.B, .heads = s.H, .key_dim = s.K, .value_dim = s.V}));
  bytes += 2.0 * static_cast<double>(state.matrix.bytes());
  const double rows = static_cast<double>(s.B * s.T * s.H);
  const double flops = rows * mixer.micro_steps * static_cast<double>(s.K * s.V) * (P::axes.erase == weft::erase::none ? 4 : P::axes.erase == weft::erase::tied ? 6 : 8);
  const double by_bytes = bytes / here.bandwidth * 1e3, by_flops = flops / here.peak * 1e3, floor = std::max(by_bytes, by_flops);
  const float ms = step ? in_a_graph(here, 20, [&] { weft::step(gpu, mixer, in, state, {.o = o}); })
                        : here.watch.median(here.times, [&] { weft::scan(gpu, mixer, in, state, {.o = o}); });
  std::printf("%-5s %-22s %4lld x %6lld x %3lld, %3lld x %3lld  %8.4f ms  floor %7.4f (%s)  %5.1f %%\n", step ? "step" : "scan", name, static_cast<long long>(s.B),
              static_cast<long long>(s.T), static_cast<long long>(s.H), static_cast<long long>(s.K), static_cast<long long>(s.V), static_cast<double>(ms), floor,
              by_bytes > by_flops ? "bytes" : "flops", 100 * floor / static_cast<double>(ms));
}

}  // namespace

int main(int count, char** arguments) try {
  machine here;
  if (count > 1 && std::strcmp(arguments[1], "--quick") == 0) here.times = 7;
  const shape batch{4, 8192, 32, 128, 128}, small{4, 8192, 64, 64, 64}, longer{1, 32768, 32, 128, 128}, few{1, 65536, 4, 128, 128};
  for (const shape& s : {batch, small, longer, few}) {
    time_mixer(here, "gated_delta_rule", weft::gated_delta_rule<bf16>{}, s);
    time_mixer(here, "simple_gla", weft::simple_gla<bf16>{}, s);
    time_mixer(here, "kda", weft::kda<bf16>{.qk_l2norm = true}, s);
  }
  time_mixer(here, "gated_delta_rule unit", weft::gated_delta_rule<bf16>{.qk_l2norm = true}, batch);
  time_mixer(here, "retention", weft::retention<bf16>{}, batch);
  time_mixer(here, "delta_rule", weft::delta_rule<bf16>{.qk_l2norm = true}, batch);
  time_mixer(here, "comba", weft::comba<bf16>{}, batch);
  time_mixer(here, "delta product of 2", weft::gated_delta_product<bf16>{.micro_steps = 2}, batch);
  time_mixer(here, "gla", weft::gla<bf16>{}, batch);
  time_mixer(here, "hgrn2", weft::hgrn2<bf16>{}, batch);
  time_mixer(here, "gdn2", weft::gdn2<bf16>{.qk_l2norm = true}, batch);
  time_mixer(here, "rwkv6", weft::rwkv6<bf16>{}, small);
  time_mixer(here, "rwkv7", weft::rwkv7<bf16>{}, small);
  time_mixer(here, "mamba2", weft::mamba2<bf16>{}, shape{4, 8192, 64, 128, 64, 1});
  for (const weft::index b : {1, 16, 128}) {
    time_mixer(here, "gated_delta_rule", weft::gated_delta_rule<bf16>{}, shape{b, 1, 32, 128, 128}, true);
    time_mixer(here, "kda", weft::kda<bf16>{}, shape{b, 1, 32, 128, 128}, true);
    time_mixer(here, "rwkv7", weft::rwkv7<bf16>{}, shape{b, 1, 64, 64, 64}, true);
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
