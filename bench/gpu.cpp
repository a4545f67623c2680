// Rows of the GPU. Their time is that between two events on the device.
#include "gpu.hpp"

#include <memory>

#include "measure.hpp"
#include "operators.hpp"

namespace bench {

void add_gpu() {
  for (const gpu_row& row : gpu_rows())
    entries().push_back({row.name, true, [row](benchmark::State& s) {
      if (const std::string wrong = row.mismatch(); !wrong.empty()) return s.SkipWithError(wrong.c_str());
      const auto call = row.prepare();
      call();
      double seconds = 0;
      for (auto _ : s) seconds += call();
      seconds /= static_cast<double>(s.iterations());
      s.counters["device_us"] = seconds * 1e6;
      s.counters["tokens_per_second"] = row.tokens / seconds;
      s.counters["gflops"] = row.flops / seconds * 1e-9;
      s.counters["gb_per_second"] = row.bytes / seconds * 1e-9;
      s.counters["share_of_copy"] = row.bytes / seconds * 1e-9 / gpu_copy_gb_per_second();
    }});
}

}  // namespace bench
