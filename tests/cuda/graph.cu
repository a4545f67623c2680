#include "graph.hpp"

#include <random>
#include <string>

#include <weft/cuda.hpp>

namespace contract {
namespace {

constexpr weft::index T = 37, H = 2, K = 48, V = 40, steps = 3;

// Packed sequences of 20, 0 and 17 tokens, then a few single tokens for each.
struct session {
  weft::cuda gpu;
  weft::gated_delta_rule<float> mixer{.qk_l2norm = true};
  weft::device_array<float, 4> q, k, v, o, q1, k1, v1, o1;
  weft::device_array<float, 3> g, beta, g1, beta1;
  weft::on_device<weft::recurrent_state<float>> state, start;
  std::vector<weft::index> offsets{0, 20, 20, 37};

  explicit session(cudaStream_t stream) : gpu(stream) {
    start = weft::copy(gpu, mixer.state({.batch = 3, .heads = H, .key_dim = K, .value_dim = V}));
    state = start;
    const auto make = [&](auto& a, std::array<weft::index, 4> e) { a = weft::device_array<float, 4>(stream, e); };
    make(q, {1, T, H, K}), make(k, {1, T, H, K}), make(v, {1, T, H, V}), make(o, {1, T, H, V});
    make(q1, {3, 1, H, K}), make(k1, {3, 1, H, K}), make(v1, {3, 1, H, V}), make(o1, {3, 1, H, V});
    g = beta = weft::device_array<float, 3>(stream, {1, T, H});
    g1 = beta1 = weft::device_array<float, 3>(stream, {3, 1, H});
  }
  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> number(0, 1);
    const auto put = [&](auto& a, float scale, float shift) {
      std::vector<float> host(static_cast<std::size_t>(a.size()));
      for (float& x : host) x = scale * number(random) + shift;
      a.upload(host.data());
    };
    for (auto* a : {&q, &k, &v, &q1, &k1, &v1}) put(*a, 2, -1);
    put(g, -0.3f, 0), put(g1, -0.3f, 0), put(beta, 1, 0), put(beta1, 1, 0);
  }
  void call() {
    state = start;
    weft::scan(gpu, mixer, {.q = q, .k = k, .v = v, .g = g, .beta = beta}, state, {.o = o}, offsets);
    for (weft::index i = 0; i < steps; ++i) weft::step(gpu, mixer, {.q = q1, .k = k1, .v = v1, .g = g1, .beta = beta1}, state, {.o = o1});
  }
  std::vector<float> results() const {
    weft::cpu cpu;
    std::vector<float> all;
    const auto add = [&](const auto& a) {
      const auto host = weft::copy(cpu, a);
      all.insert(all.end(), host.data(), host.data() + host.size());
    };
    add(o), add(o1), add(state.matrix);
    return all;
  }
};

struct stream_of_its_own {
  cudaStream_t stream = nullptr;
  stream_of_its_own() { weft::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~stream_of_its_own() { cudaStreamDestroy(stream); }
};

}  // namespace

called_and_replayed graph_of_prefill_and_decode() {
  stream_of_its_own own;
  session s(own.stream);
  called_and_replayed r;
  s.fill(1);
  s.call();
  r.called = s.results();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  weft::check_cuda(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  s.call();
  s.offsets.assign(4, 0);  // the graph has kept its own
  weft::check_cuda(cudaStreamEndCapture(own.stream, &graph), "cudaStreamEndCapture");
  weft::check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  const auto replay = [&] {
    weft::check_cuda(cudaGraphLaunch(executable, own.stream), "cudaGraphLaunch");
    return s.results();
  };
  replay();
  r.replayed = replay();
  s.fill(2);
  r.replayed_on_new_inputs = replay();
  s.offsets = {0, 20, 20, 37};
  s.call();
  r.called_on_new_inputs = s.results();
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  return r;
}

bool growing_capture_is_refused() {
  stream_of_its_own own;
  session s(own.stream);
  std::string said;
  cudaGraph_t graph = nullptr;
  weft::check_cuda(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    s.call();
  } catch (const weft::error& e) {
    said = e.what();
  }
  cudaStreamEndCapture(own.stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  return said.find("make the call once before") != std::string::npos;
}

}  // namespace contract
