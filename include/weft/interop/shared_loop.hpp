// What thread-pool adapters share: a loop whose iterations go to whoever asks next, and the first exception of any.
#pragma once
#include <atomic>
#include <exception>
#include <utility>

#include "../core/executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace interop {

class shared_loop {
 public:
  shared_loop(index n, task_ref f) : n_(n), f_(f) {}

  // Takes iterations until none is left; each participant has a worker number of its own. Never throws.
  void run(int worker) noexcept {
    try {
      for (index i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_;) f_(i, worker);
    } catch (...) {
      next_.store(n_, std::memory_order_relaxed);  // the rest is not begun
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  // After all participants are done. The exception leaves with its catcher: a participant that goes last does not free it.
  void rethrow() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  const index n_;
  const task_ref f_;
  std::atomic<index> next_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

}  // namespace interop
}  // namespace WEFT_ISA
}  // namespace weft
