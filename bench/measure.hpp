// What every benchmark shares: its place in the grid, its threads, its timing loop and its counters.
#pragma once
#include <benchmark/benchmark.h>

#include <weft/core/executor.hpp>
#include <weft/core/dtype.hpp>
#include <weft/interop/eigen_pool.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "machine.hpp"

namespace bench {

using weft::index;

inline constexpr index heads = 8;
inline constexpr index check_time = 512;  // tokens on which an operator is checked before it is timed

enum class verb { scan, step, vjp };  // vjp: forward and backward

struct point {
  bench::verb verb = bench::verb::scan;
  index time = 1, dim = 64;
  int threads = 1;
};

template <class T>
constexpr std::string_view storage_name() {
  if constexpr (std::is_same_v<T, float>) return "float";
  else if constexpr (std::is_same_v<T, double>) return "double";
  else if constexpr (std::is_same_v<T, weft::bf16>) return "bf16";
  else return "fp16";
}

// What one call does, for the counters; zero where a figure means nothing.
struct work {
  double tokens = 0, flops = 0, bytes = 0;
};

// The executor of a benchmark. Its threads live as long as it does, so that no idle pool spins beside another benchmark.
class workers {
 public:
  explicit workers(int threads) {
    if (threads == 1) return;
    threads_ = std::make_unique<Eigen::ThreadPool>(threads - 1);  // the calling thread is one
    pool_ = std::make_unique<weft::eigen_pool>(*threads_);
    cpu_ = weft::cpu(*pool_);
  }
  weft::cpu& cpu() { return cpu_; }

 private:
  std::unique_ptr<Eigen::ThreadPool> threads_;
  std::unique_ptr<weft::eigen_pool> pool_;
  weft::cpu cpu_;
};

// Times call(). The first call is not timed: it grows the workspace.
template <class Call>
void measure(benchmark::State& state, const point& p, const work& w, Call&& call) {
  call();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  // Own clock: Google Benchmark's rates follow the main thread's processor time, and its switch to real time alters the names.
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(state.iterations());
  state.counters["tokens_per_second"] = w.tokens / seconds;
  if (w.flops > 0) {
    state.counters["gflops"] = w.flops / seconds * 1e-9;
    state.counters["share_of_peak"] = w.flops / seconds * 1e-9 / fma_peak_gflops(p.threads);
  }
  if (w.bytes > 0) state.counters["gb_per_second"] = w.bytes / seconds * 1e-9;
}

// An operator puts its benchmarks on the list; main registers those of the grid asked for.
struct entry {
  std::string name;
  bool in_default_set;
  std::function<void(benchmark::State&)> run;
};
std::vector<entry>& entries();

inline std::string name_of(const point& p, std::string_view op, std::string_view storage) {
  constexpr const char* verbs[] = {"scan/", "step/", "vjp/"};
  return verbs[static_cast<std::size_t>(p.verb)] + std::string(op) + "/" + std::string(storage) + "/T:" + std::to_string(p.time) + "/d:" +
         std::to_string(p.dim) + "/H:" + std::to_string(heads) + "/threads:" + std::to_string(p.threads);
}

template <class T, class Run>
void add_point(std::string_view op, const point& p, Run run) {
  const bool small = std::is_same_v<T, float> && p.threads == 1 && (p.time == 2048 || p.time == 1);
  entries().push_back({name_of(p, op, storage_name<T>()), small, [run, p](benchmark::State& s) { run(s, p); }});
}

// run(state, point) at every point of the grid. `step_times` are the T of decoding: one token, or the lengths of a cache;
// none for an operator without a state.
template <class T, class Run>
void add(std::string_view op, const std::vector<index>& step_times, Run run) {
  for (const index dim : {64, 128})
    for (const verb v : {verb::scan, verb::step})
      for (const index time : v == verb::scan ? std::vector<index>{512, 2048, 8192} : step_times)
        for (const int threads : {1, 2}) add_point<T>(op, {v, time, dim, threads}, run);
}

// The same grid for gradients.
template <class T, class Run>
void add_vjp(std::string_view op, Run run) {
  for (const index dim : {64, 128})
    for (const index time : {512, 2048, 8192})
      for (const int threads : {1, 2}) add_point<T>(op, {verb::vjp, time, dim, threads}, run);
}

}  // namespace bench
