// Eigen's thread pool as an executor's pool:
//
//   Eigen::ThreadPool threads(3);
//   weft::eigen_pool pool(threads);    // four workers: the calling thread is one
//   weft::cpu cpu(pool);
#pragma once
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <algorithm>
#include <atomic>
#include <memory>

#include "shared_loop.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace interop {

// A loop that helpers may join while it runs. Those whose turn comes after its end find it closed, so the caller waits for nobody
// who has not begun: a busy pool, or a call from within the pool, is slow but not stuck.
class joinable_loop {
 public:
  joinable_loop(index n, task_ref f) : loop_(n, f) {}

  void help(int worker) {
    int running = running_.load();
    do
      if (running == 0) return;
    while (!running_.compare_exchange_weak(running, running + 1));
    loop_.run(worker);
    leave();
  }
  void lead() {
    loop_.run(0);
    leave();
    for (int running; (running = running_.load()) != 0;) running_.wait(running);
    loop_.rethrow();
  }

 private:
  void leave() {
    if (running_.fetch_sub(1) == 1) running_.notify_all();
  }

  shared_loop loop_;
  std::atomic<int> running_{1};  // participants, the caller first; at 0 nobody joins any more
};

}  // namespace interop

// The pool outlives this object. Several threads may use it at once, each with a cpu of its own.
class eigen_pool {
 public:
  explicit eigen_pool(Eigen::ThreadPoolInterface& pool) : pool_(&pool) {}

  int workers() const { return pool_->NumThreads() + 1; }

  // Returns when all are done, or throws the first exception of a task; then tasks not yet begun are left out.
  void parallel_for(index n, task_ref f) {
    if (n <= 0) return;
    const auto loop = std::make_shared<interop::joinable_loop>(n, f);
    const int helpers = static_cast<int>(std::min<index>(n, workers()) - 1);
    for (int worker = 1; worker <= helpers; ++worker) pool_->Schedule([loop, worker] { loop->help(worker); });
    loop->lead();
  }

 private:
  Eigen::ThreadPoolInterface* pool_;
};

static_assert(thread_pool<eigen_pool>);

}  // namespace WEFT_ISA
}  // namespace weft
