// weft_bench [--all] [Google Benchmark's options]
//
// Names are VERB/OPERATOR/STORAGE/T:../d:../H:../threads:.. . Without --all: every operator in float at T = 2048 and one
// token of decoding, one thread. With --all the whole grid: T 512, 2048, 8192, one and two threads, float and bf16; take from
// it by --benchmark_filter. Where there is a GPU, rows of it end in /gpu.
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "measure.hpp"
#include "operators.hpp"

std::vector<bench::entry>& bench::entries() {
  static std::vector<entry> list;
  return list;
}

int main(int argc, char** argv) {
  bool all = false;
  bool help = false;
  std::string min_time = "--benchmark_min_time=0.2";  // a default; a later one of the user's wins
  std::vector<char*> arguments{argv[0], min_time.data()};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    help |= argument == "--help";
    if (argument == "--all") all = true;
    else arguments.push_back(argv[i]);
  }
  if (help) std::cout << "weft_bench [--all] [options of Google Benchmark]\n  --all  the whole grid, not the small default set\n\n";

  bench::add_linear();
  bench::add_constant_decay();
  bench::add_gated();
  bench::add_state_space();
  bench::add_delta();
  bench::add_channel_delta();
  bench::add_delta_product();
  bench::add_low_rank();
  bench::add_attention();
  bench::add_attention_gradients();
  bench::add_hybrid();
  bench::add_layer_operations();
  bench::add_gpu();
  for (const bench::entry& e : bench::entries())
    if (all || e.in_default_set) benchmark::RegisterBenchmark(e.name.c_str(), e.run)->Unit(benchmark::kMicrosecond);

  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  benchmark::AddCustomContext("processor", bench::processor_name());
  benchmark::AddCustomContext("instruction_set", bench::instruction_set());
  benchmark::AddCustomContext("fma_peak_gflops", std::to_string(bench::fma_peak_gflops(1)));
  benchmark::AddCustomContext("fma_peak_gflops_2_threads", std::to_string(bench::fma_peak_gflops(2)));
  benchmark::AddCustomContext("read_gb_per_second", std::to_string(bench::read_gb_per_second()));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
