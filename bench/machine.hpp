// The ceilings of the machine that figures are held against, measured in this process.
#pragma once
#include <string>

namespace bench {

// Multiply-adds from registers, in GFLOP/s, on so many threads; measured once for each count.
double fma_peak_gflops(int threads);
// A buffer far larger than the caches read once, in GB/s, on one thread.
double read_gb_per_second();
std::string processor_name();
std::string instruction_set();

}  // namespace bench
