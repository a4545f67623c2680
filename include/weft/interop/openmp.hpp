// OpenMP's threads as an executor's pool: weft::openmp_pool pool; weft::cpu cpu(pool). Empty where OpenMP is off (-fopenmp).
#pragma once
#if defined(_OPENMP)
#include <omp.h>

#include "shared_loop.hpp"

namespace weft {
inline namespace WEFT_ISA {

class openmp_pool {
 public:
  explicit openmp_pool(int threads = omp_get_max_threads()) : threads_(threads > 0 ? threads : 1) {}

  int workers() const { return threads_; }

  // Returns when all are done, or throws the first exception of a task; then tasks not yet begun are left out.
  void parallel_for(index n, task_ref f) {
    interop::shared_loop loop(n, f);
    const int team = n < threads_ ? static_cast<int>(n > 0 ? n : 1) : threads_;
#pragma omp parallel num_threads(team)
    loop.run(omp_get_thread_num());
    loop.rethrow();
  }

 private:
  int threads_;
};

static_assert(thread_pool<openmp_pool>);

}  // namespace WEFT_ISA
}  // namespace weft
#endif
