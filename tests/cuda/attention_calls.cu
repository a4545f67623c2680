#include "attention_calls.hpp"

#include "attention_session.cuh"

namespace contract {
namespace {

using weft::attention, weft::block_lists, weft::dense, weft::window;

class findings {
 public:
  std::vector<std::string> wrong;

  void expect(bool right, const std::string& name) {
    if (!right) wrong.push_back(name);
  }
  template <class Session>
  void close(Session& s, const std::string& name) {
    const double d = s.difference();
    expect(d <= s.tolerance(), name + ": " + std::to_string(d));
  }
};

// Ascending numbers below `blocks`, each with a chance of one half.
std::vector<std::int32_t> some_blocks(std::mt19937& random, index blocks) {
  std::vector<std::int32_t> list;
  for (index i = 0; i < blocks; ++i)
    if (random() % 2 == 0) list.push_back(static_cast<std::int32_t>(i));
  return list;
}

// Two calls, the second on what the first left; lists for `list_heads` of the query heads, packed or not, in both forms.
void lists_hold(findings& f, index list_heads, bool compressed, std::vector<index> cu) {
  const std::string name = std::to_string(list_heads) + (compressed ? " compressed" : " plain") + (cu.empty() ? "" : " packed");
  const index size = 7, query_heads = 12;
  attention_session<attention<float, block_lists>> s({.select = {.block_size = size}}, {.batch = cu.empty() ? 2 : 1, .heads = 4, .query_heads = query_heads, .key_dim = 20,
                                                     .value_dim = 150, .capacity = 99, .cu = cu});
  const index time = cu.empty() ? 23 : cu.back();
  for (int call = 0; call < 2; ++call) {
    s.draw(time);
    std::vector<std::vector<std::int32_t>> lists;
    for (index b = 0; b < s.x.batch; ++b)
      for (index t = 0; t < time; ++t)
        for (index h = 0; h < list_heads; ++h) {
          index n = b;
          if (!cu.empty())
            for (n = 0; t >= cu[static_cast<std::size_t>(n) + 1];) ++n;
          const index end = s.cache.length(n) + (cu.empty() ? time : cu[static_cast<std::size_t>(n) + 1] - cu[static_cast<std::size_t>(n)]);
          lists.push_back(some_blocks(s.random, (end + size - 1) / size));
        }
    index width = 1, total = 0;
    for (const auto& l : lists) width = std::max(width, static_cast<index>(l.size())), total += static_cast<index>(l.size());
    weft::array<std::int32_t, 4> blocks({s.x.batch, time, list_heads, width});
    weft::array<std::int32_t, 1> entries({total});
    weft::array<index, 1> offsets({static_cast<index>(lists.size()) + 1});
    std::fill_n(blocks.data(), blocks.size(), -1);
    index at = 0;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      std::copy(lists[i].begin(), lists[i].end(), blocks.data() + static_cast<index>(i) * width);
      std::copy(lists[i].begin(), lists[i].end(), entries.data() + at);
      at += static_cast<index>(lists[i].size());
      offsets.data()[i + 1] = at;
    }
    const auto blocks_there = weft::copy(s.gpu, blocks);
    const auto entries_there = weft::copy(s.gpu, entries);
    const auto offsets_there = weft::copy(s.gpu, offsets);
    auto there = s.mixer;
    if (compressed) {
      s.mixer.select = {size, {}, offsets.view(), entries.view(), list_heads};
      there.select = {size, {}, offsets_there.view(), entries_there.view(), list_heads};
    } else {
      s.mixer.select = {.block_size = size, .blocks = blocks.view()};
      there.select = {.block_size = size, .blocks = blocks_there.view()};
    }
    weft::literal(s.mixer, s.inputs(true), s.cache, {s.o, s.lse}, cu);
    weft::scan(s.gpu, there, s.inputs_there(true), s.there, {s.o_, s.lse_}, cu);
    f.close(s, name + ", call " + std::to_string(call));
  }
}

template <class M>
void sums_hold(findings& f, const std::string& name, M mixer, attention_shape x, bool sinks) {
  attention_session<M> s(mixer, x);
  for (const index time : {index{19}, index{1}, index{33}, index{1}}) {
    s.draw(time);
    weft::literal(mixer, s.inputs(sinks), s.cache, {s.o, s.lse});
    if (time == 1) weft::step(s.gpu, mixer, s.inputs_there(sinks), s.there, {s.o_, s.lse_});
    else weft::scan(s.gpu, mixer, s.inputs_there(sinks), s.there, {s.o_, s.lse_});
    f.close(s, name + " of " + std::to_string(time));
  }
}

}  // namespace

std::vector<std::string> wrong_attention_lists() {
  findings f;
  for (const index heads : {12, 6, 2, 1})
    for (const bool compressed : {false, true}) {
      lists_hold(f, heads, compressed, {});
      lists_hold(f, heads, compressed, {0, 9, 9, 31});
    }
  return f.wrong;
}

std::vector<std::string> wrong_attention_sums() {
  findings f;
  for (const bool sinks : {false, true}) {
    const std::string with = sinks ? " with sinks" : "";
    sums_hold<attention<float>>(f, "dense" + with, {}, {.batch = 3, .heads = 2, .query_heads = 6, .key_dim = 33, .value_dim = 40, .capacity = 60}, sinks);
    sums_hold<attention<float>>(f, "wide" + with, {}, {.batch = 1, .heads = 1, .query_heads = 40, .key_dim = 200, .value_dim = 300, .capacity = 2000}, sinks);
    sums_hold<attention<float, window>>(f, "ring" + with, {.select = {.window = 12, .kept = 2}}, {.batch = 2, .heads = 2, .query_heads = 2, .key_dim = 8, .value_dim = 5}, sinks);
    sums_hold<attention<double, window>>(f, "double" + with, {.select = {.window = 30}, .softcap = 3}, {.batch = 2, .heads = 3, .query_heads = 3}, sinks);
  }
  return f.wrong;
}

std::vector<std::string> wrong_attention_graph() {
  findings f;
  cudaStream_t stream = nullptr;
  weft::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  attention_session<attention<float>> s({}, {.batch = 2, .heads = 2, .query_heads = 4, .key_dim = 16, .value_dim = 24, .capacity = 600});
  weft::cuda gpu(stream);
  s.draw(595);
  weft::literal(s.mixer, s.inputs(false), s.cache, {s.o, s.lse});
  weft::scan(s.gpu, s.mixer, s.inputs_there(false), s.there, {s.o_, s.lse_});
  f.close(s, "prefill");
  s.draw(1);
  const auto step = [&](weft::cuda& on) { weft::step(on, s.mixer, s.inputs_there(false), s.there, {s.o_, s.lse_}); };
  const auto expect = [&](const std::string& name) {
    weft::literal(s.mixer, s.inputs(false), s.cache, {s.o, s.lse});
    s.gpu.synchronize();
    weft::check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    f.close(s, name);
  };
  s.gpu.synchronize();
  step(gpu);
  expect("step");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  weft::check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  step(gpu);
  weft::check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  weft::check_cuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  for (int i = 0; i < 4; ++i) {
    weft::check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    expect("replay " + std::to_string(i));
  }
  // The cache is full: a replay changes nothing there and gives NaN; of a call the host knows.
  weft::check_cuda(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
  weft::check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  const auto o = weft::copy(s.host, s.o_);
  for (index i = 0; i < o.size(); ++i)
    if (!std::isnan(o.data()[i])) f.expect(false, "a replay without room gave a number");
  f.expect(weft::copy(s.host, s.there).length(1) == 600, "a replay without room changed the length");
  s.there = weft::copy(s.gpu, s.cache);
  try {
    step(gpu);
    f.expect(false, "a full cache took a token");
  } catch (const weft::error& e) {
    f.expect(e.code() == weft::errc::capacity, e.what());
  }
  const auto rows = s.there.gather({1, 0, 1});
  f.expect(rows.held(2) == 600 && weft::copy(s.host, rows).length(2) == 600, "gather keeps lengths");
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return f.wrong;
}

}  // namespace contract
