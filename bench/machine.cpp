#include "machine.hpp"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <numeric>
#include <thread>
#include <vector>

namespace bench {
namespace {

using clock = std::chrono::steady_clock;
double seconds_since(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

// Compiler vectors as wide as the target's registers; a * x + y becomes one instruction where there is one.
#if defined(__AVX512F__)
constexpr int register_bytes = 64;
#define BENCH_REGISTER "v"
#elif defined(__AVX__)
constexpr int register_bytes = 32;
#define BENCH_REGISTER "x"
#elif defined(__ARM_NEON)
constexpr int register_bytes = 16;
#define BENCH_REGISTER "w"
#else
constexpr int register_bytes = 16;
#define BENCH_REGISTER "x"
#endif
using lanes __attribute__((vector_size(register_bytes))) = float;
constexpr int width = register_bytes / 4;

constexpr int chains = 12;  // latency times units is 10 at most on the processors of today; 12 and two operands fit 16 registers

// Returns the flops done. Opaque to the compiler at every round, so nothing is folded or spilled.
[[gnu::noinline]] double multiply_add(long rounds) {
  lanes x = lanes{} + 0.999f, y = lanes{} + 0.001f;
  lanes a0 = y, a1 = y, a2 = y, a3 = y, a4 = y, a5 = y, a6 = y, a7 = y, a8 = y, a9 = y, a10 = y, a11 = y;
  for (long r = 0; r < rounds; ++r) {
    asm volatile("" : "+" BENCH_REGISTER(x), "+" BENCH_REGISTER(y));
    a0 = a0 * x + y, a1 = a1 * x + y, a2 = a2 * x + y, a3 = a3 * x + y, a4 = a4 * x + y, a5 = a5 * x + y;
    a6 = a6 * x + y, a7 = a7 * x + y, a8 = a8 * x + y, a9 = a9 * x + y, a10 = a10 * x + y, a11 = a11 * x + y;
    asm volatile("" : "+" BENCH_REGISTER(a0), "+" BENCH_REGISTER(a1), "+" BENCH_REGISTER(a2), "+" BENCH_REGISTER(a3), "+" BENCH_REGISTER(a4),
                 "+" BENCH_REGISTER(a5), "+" BENCH_REGISTER(a6), "+" BENCH_REGISTER(a7), "+" BENCH_REGISTER(a8), "+" BENCH_REGISTER(a9),
                 "+" BENCH_REGISTER(a10), "+" BENCH_REGISTER(a11));
  }
  return 2.0 * chains * width * static_cast<double>(rounds);
}

// Processor time of the calling thread: what other programs take from it does not count against the processor.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double rate(long rounds) {
  const double start = thread_seconds();
  const double flops = multiply_add(rounds);
  return flops / (thread_seconds() - start) * 1e-9;
}

// One round on all threads at once, which share clock and units; the sum of their rates.
double fma_round(int threads, long rounds) {
  std::atomic<int> ready{0};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto run = [&](std::size_t i) {
    for (ready.fetch_add(1); ready.load() != threads;) std::this_thread::yield();
    rates[i] = rate(rounds);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run, static_cast<std::size_t>(i));
  run(0);
  for (std::thread& t : others) t.join();
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace

double fma_peak_gflops(int threads) {
  static std::map<int, double> known;
  double& best = known[threads];
  if (best == 0) {
    long rounds = 1 << 16;
    while (2.0 * chains * width * static_cast<double>(rounds) / rate(rounds) < 5e6) rounds *= 2;  // 5 ms
    for (int i = 0; i < 20; ++i) best = std::max(best, fma_round(threads, rounds));
  }
  return best;
}

double read_gb_per_second() {
  static double best = 0;
  if (best == 0) {
    constexpr std::size_t streams = 8, count = std::size_t{128} << 18;  // 128 MiB
    std::vector<float> data(count, 1.0f);
    for (int i = 0; i < 4; ++i) {
      const auto start = clock::now();
      lanes sum[streams] = {};
      for (std::size_t at = 0; at < count; at += streams * width)
        for (std::size_t s = 0; s < streams; ++s) {
          lanes part;
          __builtin_memcpy(&part, data.data() + at + s * width, sizeof part);
          sum[s] += part;
        }
      for (lanes& s : sum) asm volatile("" : "+" BENCH_REGISTER(s));
      best = std::max(best, static_cast<double>(count * sizeof(float)) / seconds_since(start) * 1e-9);
    }
  }
  return best;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const auto colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown";
}

std::string instruction_set() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__) && defined(__FMA__)
  return "AVX2 + FMA";
#elif defined(__AVX__)
  return "AVX";
#elif defined(__ARM_NEON)
  return "NEON";
#else
  return "base";
#endif
}

}  // namespace bench
