// The benchmarks of the GPU: recurrences and attention in bf16. Longer tables are printed by recurrence.cu and attention.cu.
#include "../gpu.hpp"

#include <cmath>
#include <memory>
#include <random>

#include <weft/attention/literal.hpp>
#include <weft/recurrence/literal.hpp>

#include "../../examples/support/cuda/memory.cuh"

namespace bench {
namespace {

using weft::bf16, weft::index;

struct shape {
  index batch, time, query_heads, heads, dim;
};

weft::cuda& device() {
  static weft::cuda gpu;
  return gpu;
}

// Seconds of a call on the device.
class stopwatch {
 public:
  stopwatch() {
    weft::check_cuda(cudaEventCreate(&begin_), "cudaEventCreate");
    weft::check_cuda(cudaEventCreate(&end_), "cudaEventCreate");
  }
  template <class F>
  double seconds(F&& f) {
    cudaEventRecord(begin_, device().stream());
    f();
    cudaEventRecord(end_, device().stream());
    weft::check_cuda(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float ms = 0;
    cudaEventElapsedTime(&ms, begin_, end_);
    return 1e-3 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};
stopwatch& watch() {
  static stopwatch w;
  return w;
}

template <class T>
__global__ void fill_kernel(T* p, index n, unsigned seed, float low, float high) {
  const index step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ull + (static_cast<std::uint64_t>(seed) << 40);
    x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull, x ^= x >> 33;
    p[i] = T(low + (high - low) * (static_cast<float>(static_cast<std::uint32_t>(x)) * 2.3283064e-10f));
  }
}

template <class View>
std::array<index, View::rank> extents_of(const shape& s) {
  constexpr weft::role what = View::role;
  std::array<index, View::rank> e{};
  std::size_t at = 0;
  if (what.time) e[at++] = s.batch, e[at++] = s.time;
  e[at++] = what.heads == weft::per_head::key ? s.heads : s.query_heads;
  if (what.width != weft::width::one) e[at] = s.dim;
  return e;
}

// Numbers on the device for every input that must be there; decays below 0, gates from 0 to 1.
template <class M>
struct tensors {
  typename M::inputs in;
  std::vector<std::shared_ptr<void>> memory;

  explicit tensors(const shape& s) {
    weft::for_each_member(in, [&](auto& v, auto i) {
      using view = std::remove_cvref_t<decltype(v)>;
      const std::string_view name = name_of_input(i);
      const bool gate = view::role.width == weft::width::one;
      if (!name.ends_with('?'))
        v = numbers<std::remove_const_t<typename view::element>, view::rank>(extents_of<view>(s), name == "g" ? -0.3f : gate ? 0.f : -1.7f, name == "g" ? 0.f : gate ? 1.f : 1.7f);
    });
  }
  template <class T, int Rank>
  weft::view<const T, Rank> numbers(const std::array<index, Rank>& extents, float low, float high) {
    const auto a = std::make_shared<weft::device_array<T, Rank>>(device().stream(), extents);
    weft::launch("fill_kernel", fill_kernel<T>, 2048, 256, 0, device().stream(), a->data(), a->size(), static_cast<unsigned>(memory.size() + 1), low, high);
    memory.push_back(a);
    return std::as_const(*a).view();
  }
  static std::string_view name_of_input(std::size_t i) {
    if constexpr (requires { typename M::policy_type; }) return weft::name_of<typename M::policy_type>(i).text;
    else return M::names[i];
  }
};

template <class M>
auto state_for(const M& mixer, const shape& s, index capacity) {
  return mixer.state({.batch = s.batch, .heads = s.heads, .key_dim = s.dim, .value_dim = s.dim, .capacity = capacity});
}

// The same numbers on the host.
template <class T, int Rank>
weft::view<const T, Rank> brought(const weft::view<const T, Rank>& from, std::vector<std::shared_ptr<void>>& memory) {
  const auto a = std::make_shared<weft::array<T, Rank>>(from.extent);
  weft::check_cuda(cudaMemcpy(a->data(), from.data, a->bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  memory.push_back(a);
  return std::as_const(*a).view();
}

// A few tokens against the definition.
template <class M>
std::string mismatch(const M& mixer, index dim) {
  const shape s{1, 300, 2, 2, dim};
  const tensors<M> there(s);
  typename M::inputs in;
  std::vector<std::shared_ptr<void>> memory;
  weft::for_each_member(in, [&](auto& v, auto i) {
    const auto& from = std::get<i>(weft::tie_members(there.in));
    using base = typename std::remove_cvref_t<decltype(v)>::base;
    if (!from.null()) v = brought(static_cast<const base&>(from), memory);
  });
  weft::array<bf16, 4> o({1, s.time, s.query_heads, dim}), expected = o;
  auto state = state_for(mixer, s, s.time), other = state;
  weft::literal(mixer, in, state, typename M::outputs{.o = expected});
  ops::with_device_memory<M>(device(), in, other, typename M::outputs{.o = o}, [&](weft::cuda& gpu, const auto& views, auto& to, const auto& out) { weft::scan(gpu, mixer, views, to, out); });
  double wrong = 0, right = 0;
  for (index i = 0; i < o.size(); ++i) {
    const double x = static_cast<float>(o.data()[i]), y = static_cast<float>(expected.data()[i]);
    wrong += (x - y) * (x - y), right += y * y;
  }
  const double error = std::sqrt(wrong / right);
  return error <= 0.006 ? "" : "o differs from the literal form by " + std::to_string(error) + " (RMS over RMS)";
}

std::string name_of_row(const char* verb, const std::string& op, const shape& s) {
  return std::string(verb) + "/" + op + "/bf16/B:" + std::to_string(s.batch) + "/T:" + std::to_string(s.time) + "/d:" + std::to_string(s.dim) + "/H:" + std::to_string(s.query_heads) + "/gpu";
}

template <class M>
gpu_row recurrence_row(const std::string& op, const M& mixer, const shape& s) {
  const auto rows = static_cast<double>(s.batch * s.time * s.heads), square = static_cast<double>(s.dim * s.dim);
  const double of_element = M::policy_type::axes.erase == weft::erase::none ? 4 : M::policy_type::axes.erase == weft::erase::tied ? 6 : 8;
  const double state = 8.0 * static_cast<double>(s.batch * s.heads) * square, gate = M::policy_type::axes.decay == weft::decay::per_channel ? 4.0 : 0.0;
  return {.name = name_of_row(s.time == 1 ? "step" : "scan", op, s),
          .tokens = static_cast<double>(s.batch * s.time),
          .flops = of_element * rows * square,
          .bytes = rows * static_cast<double>(s.dim) * (8 + gate) + state,
          .mismatch = [=] { return mismatch(mixer, s.dim); },
          .prepare = [=] {
            auto in = std::make_shared<tensors<M>>(s);
            auto state = std::make_shared<weft::on_device<typename M::state_type>>(weft::copy(device(), state_for(mixer, s, 0)));
            auto o = std::make_shared<weft::device_array<bf16, 4>>(device().stream(), std::array<index, 4>{s.batch, s.time, s.heads, s.dim});
            return [=] {
              return watch().seconds([&] {
                if (s.time == 1) weft::step(device(), mixer, in->in, *state, typename M::outputs{.o = *o});
                else weft::scan(device(), mixer, in->in, *state, typename M::outputs{.o = *o});
              });
            };
          }};
}

// A prefill of an empty cache, or a step on one that holds `held` tokens.
template <class Selector>
gpu_row attention_row(const std::string& op, Selector select, const shape& s, index held, index keys_a_query) {
  using M = weft::attention<bf16, Selector>;
  const M mixer{.select = select};
  const auto w = static_cast<double>(std::min(keys_a_query, s.time + held)), t = static_cast<double>(s.time);
  const double pairs = held > 0 ? w : w * (w + 1) / 2 + (t - w) * w;
  const auto dim = static_cast<double>(s.dim), batch = static_cast<double>(s.batch);
  return {.name = name_of_row(held > 0 ? "step" : "scan", op + (held > 0 ? "_of_" + std::to_string(held) : ""), s),
          .tokens = batch * t,
          .flops = 4 * batch * static_cast<double>(s.query_heads) * dim * pairs,
          .bytes = held > 0 ? 4 * batch * static_cast<double>(s.heads * held) * dim : 4 * batch * t * static_cast<double>(s.query_heads + s.heads) * dim,
          .mismatch = [=] { return mismatch(mixer, s.dim); },
          .prepare = [=] {
            auto in = std::make_shared<tensors<M>>(s);
            auto state = std::make_shared<weft::on_device<typename M::state_type>>(weft::copy(device(), state_for(mixer, s, held + s.time)));
            auto o = std::make_shared<weft::device_array<bf16, 4>>(device().stream(), std::array<index, 4>{s.batch, s.time, s.query_heads, s.dim});
            auto length = std::make_shared<weft::array<std::int64_t, 1>>(std::array<index, 1>{s.batch});
            std::fill_n(length->data(), s.batch, held);
            return [=] {
              state->length.upload(length->data());
              state->known.held.assign(length->data(), length->data() + length->size());
              return watch().seconds([&] {
                if (held > 0) weft::step(device(), mixer, in->in, *state, {.o = *o});
                else weft::scan(device(), mixer, in->in, *state, {.o = *o});
              });
            };
          }};
}

}  // namespace

double gpu_copy_gb_per_second() {
  static const double rate = [] {
    const index n = index{1} << 30;
    weft::device_array<char, 1> a(device().stream(), {n}), b = a;
    double best = 1;
    for (int i = 0; i < 5; ++i) best = std::min(best, watch().seconds([&] { b = a; }));
    return 2e-9 * static_cast<double>(n) / best;
  }();
  return rate;
}

std::vector<gpu_row> gpu_rows() {
  try {
    device();
  } catch (const weft::error&) {
    return {};
  }
  const shape prefill{4, 8192, 32, 32, 128}, decode{128, 1, 32, 32, 128};
  return {
      recurrence_row("gated_delta_rule", weft::gated_delta_rule<bf16>{.qk_l2norm = true}, prefill),
      recurrence_row("simple_gla", weft::simple_gla<bf16>{}, prefill),
      recurrence_row("kda", weft::kda<bf16>{.qk_l2norm = true}, prefill),
      recurrence_row("gated_delta_rule", weft::gated_delta_rule<bf16>{.qk_l2norm = true}, decode),
      attention_row("softmax_attention", weft::dense{}, {1, 16384, 16, 16, 128}, 0, 16384),
      attention_row("sliding_window_attention", weft::window{.window = 1024}, {1, 16384, 16, 16, 128}, 0, 1024),
      attention_row("softmax_attention", weft::dense{}, {16, 1, 32, 8, 128}, 8192, 8193),
  };
}

}  // namespace bench
