#include "experiment.hpp"

#include <weft/layer/cross_entropy.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>

namespace s0 {

progress::progress(std::string label, index total) : label_(std::move(label)), total_(total), shown_(::isatty(STDERR_FILENO) == 1) {
  show();
}
progress::~progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}
void progress::done(index more) {
  const std::lock_guard lock(mutex_);
  count_ += more;
  show();
}
void progress::show() const {
  if (!shown_) return;
  constexpr index width = 40;
  const index full = total_ > 0 ? count_ * width / total_ : width;
  std::fprintf(stderr, "\r%-28s [%s%s] %3lld %%", label_.c_str(), std::string(static_cast<std::size_t>(full), '#').c_str(),
               std::string(static_cast<std::size_t>(width - full), ' ').c_str(),
               static_cast<long long>(total_ > 0 ? count_ * 100 / total_ : 100));
  std::fflush(stderr);
}

double share_right(const weft::array<float, 3>& logits, const weft::array<std::int64_t, 2>& targets) {
  index hits = 0, all = 0;
  for (index s = 0; s < targets.extent(0); ++s)
    for (index t = 0; t < targets.extent(1); ++t) {
      if (targets(s, t) == weft::no_target) continue;
      const float* const row = &logits(s, t, 0);
      hits += std::max_element(row, row + logits.extent(2)) - row == targets(s, t);
      ++all;
    }
  return static_cast<double>(hits) / static_cast<double>(all);
}

std::vector<scores> tune_and_judge(weft::cpu& cpu, const std::vector<weft::trained<float>>& list, double rate, double l2,
                                   std::span<const index> steps, const std::function<double()>& loss, const std::function<scores()>& judge,
                                   const std::function<void()>& before) {
  std::vector<scores> results;
  const auto look = [&](index step) {
    before();
    if (std::find(steps.begin(), steps.end(), step) != steps.end()) results.push_back(judge());
  };
  weft::tune(cpu, list, {.steps = steps.back(), .rate = rate, .l2 = l2}, [&](index step) {
    look(step);
    return loss();
  });
  look(steps.back());
  return results;
}

void for_all(int threads, index n, const std::function<void(index)>& f) {
  std::atomic<index> next = 0;
  std::exception_ptr failed;
  std::mutex mutex;
  const auto work = [&] {
    for (index i = next++; i < n; i = next++) try {
        f(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failed) failed = std::current_exception();
        next = n;
      }
  };
  std::vector<std::thread> helpers;
  for (int t = 1; t < threads; ++t) helpers.emplace_back(work);
  work();
  for (auto& t : helpers) t.join();
  if (failed) std::rethrow_exception(failed);
}

namespace {

struct job {
  std::size_t method, rate;
  unsigned seed;
  std::vector<index> steps;
  std::vector<scores> result{};
};

void run(progress& bar, int threads, std::span<const method> methods, std::vector<job>& jobs) {
  for_all(threads, std::ssize(jobs), [&](index i) {
    job& j = jobs[static_cast<std::size_t>(i)];
    j.result = methods[j.method].train(j.seed, methods[j.method].rates[j.rate], j.steps);
    bar.done(j.steps.back());
  });
}

}  // namespace

std::vector<row> compare(const char* label, int threads, std::span<const method> methods, std::span<const unsigned> choosing,
                         std::span<const unsigned> reported) {
  index total = 0;
  for (const method& m : methods) total += m.steps.back() * (std::ssize(m.rates) * std::ssize(choosing) + std::ssize(reported));
  progress bar(label, total);
  std::vector<job> jobs;
  for (std::size_t m = 0; m < methods.size(); ++m)
    for (std::size_t r = 0; r < methods[m].rates.size(); ++r)
      for (const unsigned seed : choosing) jobs.push_back({m, r, seed, methods[m].steps});
  run(bar, threads, methods, jobs);

  std::vector<row> rows;
  std::vector<std::size_t> rates;
  for (std::size_t m = 0; m < methods.size(); ++m)
    for (std::size_t s = 0; s < methods[m].steps.size(); ++s) {
      std::vector<scores> by_rate(methods[m].rates.size());
      for (const job& j : jobs)
        if (j.method == m) by_rate[j.rate] += j.result[s];
      for (scores& x : by_rate) x = x / static_cast<double>(choosing.size());
      const auto best = std::max_element(by_rate.begin(), by_rate.end(),
                                         [&](const scores& a, const scores& b) { return methods[m].best(a) < methods[m].best(b); });
      const auto most =
          std::max_element(by_rate.begin(), by_rate.end(), [](const scores& a, const scores& b) { return a.mean() < b.mean(); });
      rates.push_back(static_cast<std::size_t>(best - by_rate.begin()));
      rows.push_back(
          {methods[m].name, methods[m].cost, methods[m].parameters, methods[m].steps[s], methods[m].rates[rates.back()], {}, *most});
    }
  // Numbers of steps that share a rate share their training.
  std::vector<job> last;
  for (std::size_t m = 0, first = 0; m < methods.size(); first += methods[m++].steps.size())
    for (std::size_t r = 0; r < methods[m].rates.size(); ++r) {
      std::vector<index> steps;
      for (std::size_t s = 0; s < methods[m].steps.size(); ++s)
        if (rates[first + s] == r) steps.push_back(methods[m].steps[s]);
      for (const unsigned seed : reported)
        if (!steps.empty()) last.push_back({m, r, seed, steps});
    }
  run(bar, threads, methods, last);
  for (std::size_t m = 0, first = 0; m < methods.size(); first += methods[m++].steps.size())
    for (const job& j : last)
      if (j.method == m)
        for (std::size_t s = 0; s < j.steps.size(); ++s)
          for (std::size_t i = 0; i < methods[m].steps.size(); ++i)
            if (methods[m].steps[i] == j.steps[s]) rows[first + i].scores += j.result[s] / static_cast<double>(reported.size());
  return rows;
}

}  // namespace s0
