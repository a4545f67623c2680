// Eigen's pool and OpenMP as pools of an executor: every index once, no worker number twice at a time, errors carried home.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "weft/interop/eigen_pool.hpp"
#include "weft/interop/openmp.hpp"


namespace {

template <class Pool>
void keeps_the_contract(Pool& pool) {
  const auto workers = static_cast<std::size_t>(pool.workers());
  for (const weft::index n : {0, 1, 2, 3, 7, 1000, 20'000}) {
    std::vector<std::atomic<int>> times(static_cast<std::size_t>(n)), inside(workers);
    std::atomic<int> clashes{0};
    pool.parallel_for(n, [&](weft::index i, int worker) {
      auto& w = inside[static_cast<std::size_t>(worker)];
      if (w.fetch_add(1) != 0) ++clashes;
      ++times[static_cast<std::size_t>(i)];
      w.fetch_sub(1);
    });
    CHECK(clashes == 0);
    CHECK(std::all_of(times.begin(), times.end(), [](const auto& t) { return t == 1; }));
  }

  // A plain sum per worker needs no lock: calls with one worker number never overlap, and their results are seen after the call.
  for (int round = 0; round < 300; ++round) {
    std::vector<weft::index> sums(workers);
    pool.parallel_for(100, [&](weft::index i, int worker) { sums[static_cast<std::size_t>(worker)] += i; });
    REQUIRE(std::accumulate(sums.begin(), sums.end(), weft::index{0}) == 4950);
  }

  std::atomic<int> begun{0};
  const auto failing = [&](weft::index i, int) {
    ++begun;
    if (i == 5) throw std::runtime_error("task 5");
  };
  std::string caught;
  try {
    pool.parallel_for(1'000'000, failing);
  } catch (const std::runtime_error& e) {
    caught = e.what();
  }
  CHECK(caught == "task 5");
  CHECK(begun < 1'000'000);
  weft::index sum = 0;
  pool.parallel_for(1, [&](weft::index i, int) { sum += i + 1; });
  CHECK(sum == 1);
}

template <class Pool>
void runs_as_executor(Pool& pool) {
  weft::cpu cpu(pool);
  CHECK(cpu.workers() == pool.workers());
  cpu.reserve(64 * sizeof(int));
  std::atomic<weft::index> sum{0};
  cpu.parallel_for(500, [&](weft::index i, int worker) {
    auto* scratch = reinterpret_cast<weft::index*>(cpu.scratch(worker));
    *scratch = i;
    sum += *scratch;
  });
  CHECK(sum == 124'750);
}

}  // namespace

TEST_CASE("Eigen's thread pool is a pool, whose caller takes part") {
  for (const int threads : {1, 2, 5}) {
    Eigen::ThreadPool eigen(threads);
    weft::eigen_pool pool(eigen);
    CHECK(pool.workers() == threads + 1);
    keeps_the_contract(pool);
    runs_as_executor(pool);
  }
}

TEST_CASE("A pool with other work to do delays no caller, and a call within a call does not wait for itself") {
  Eigen::ThreadPool eigen(1);
  weft::eigen_pool pool(eigen);
  std::atomic<bool> release{false}, occupied{false};
  eigen.Schedule([&] {
    occupied = true;
    while (!release) std::this_thread::yield();
  });
  while (!occupied) std::this_thread::yield();
  std::atomic<int> done{0};
  pool.parallel_for(100, [&](weft::index, int worker) {
    CHECK(worker == 0);
    ++done;
  });
  CHECK(done == 100);
  release = true;

  std::atomic<int> inner{0};
  pool.parallel_for(8, [&](weft::index, int) { pool.parallel_for(8, [&](weft::index, int) { ++inner; }); });
  CHECK(inner == 64);
}

TEST_CASE("Two callers share one of Eigen's pools") {
  Eigen::ThreadPool eigen(2);
  weft::eigen_pool pool(eigen);
  std::atomic<weft::index> total{0};
  const auto work = [&] {
    for (int round = 0; round < 200; ++round) pool.parallel_for(50, [&](weft::index i, int) { total += i; });
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(total == 2 * 200 * 1225);
}

#if defined(_OPENMP)
TEST_CASE("OpenMP is a pool") {
  for (const int threads : {1, 2, 5}) {
    weft::openmp_pool pool(threads);
    CHECK(pool.workers() == threads);
    keeps_the_contract(pool);
    runs_as_executor(pool);
  }
}
#endif
