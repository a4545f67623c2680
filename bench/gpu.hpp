// What nvcc compiles of the benchmarks (cuda/rows.cu).
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace bench {

struct gpu_row {
  std::string name;
  double tokens = 0, flops = 0, bytes = 0;  // of a call, least work
  std::function<std::string()> mismatch;            // empty where a small call gives what the literal form gives
  std::function<std::function<double()>()> prepare; // a call that gives its seconds on the device
};

// None where no GPU is.
std::vector<gpu_row> gpu_rows();
// A large copy, read and written, in GB/s; measured once.
double gpu_copy_gb_per_second();

}  // namespace bench
