// What the tiers of tune_s0 have in common: methods, their scores, and how a learning rate is chosen on other seeds.
#pragma once
#include <weft/tune/tuning.hpp>

#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace s0 {

using weft::index;

// Shares of right answers. retain: what the frozen model could do before. overridden: the context says otherwise and is believed.
struct scores {
  double recall = 0, retain = 0, overridden = 0;
  double mean() const { return (recall + retain + overridden) / 3; }
  scores& operator+=(const scores& s) {
    recall += s.recall, retain += s.retain, overridden += s.overridden;
    return *this;
  }
  scores operator/(double n) const { return {recall / n, retain / n, overridden / n}; }
};

using criterion = std::function<double(const scores&)>;
inline double by_mean(const scores& s) { return s.mean(); }
inline double by_recall(const scores& s) { return s.recall; }

// A way to adapt a frozen model: what it is trained by, and how it is judged.
struct method {
  std::string name{}, cost{};  // cost: at inference
  index parameters = 0;
  std::vector<index> steps{};
  std::vector<double> rates{};
  criterion best = by_mean;
  // The scores after each number of steps, of one training at one rate.
  std::function<std::vector<scores>(unsigned seed, double rate, std::span<const index> steps)> train{};
};

struct row {
  std::string method, cost;
  index parameters = 0, steps = 0;
  double rate = 0;
  s0::scores scores;
  s0::scores best_rate{};  // the largest mean that any rate had on the seeds that rates are chosen on
};

// A threshold that must hold.
struct threshold {
  std::string what;
  double got = 0, limit = 0;
  bool at_least = true;
  bool holds() const { return at_least ? got >= limit : got <= limit; }
};

struct tier {
  std::string name;
  std::vector<row> rows;
  std::vector<threshold> thresholds;
};

// A bar on standard error where that is a terminal.
class progress {
 public:
  progress(std::string label, index total);
  ~progress();
  void done(index more = 1);

 private:
  void show() const;
  std::string label_;
  index total_, count_ = 0;
  bool shown_;
  std::mutex mutex_;
};

// The share of targets at which their logit is the largest.
double share_right(const weft::array<float, 3>& logits, const weft::array<std::int64_t, 2>& targets);

// Tunes `list` and judges after each of these numbers of steps. before(): makes what is trained part of the model, for both.
std::vector<scores> tune_and_judge(
    weft::cpu& cpu, const std::vector<weft::trained<float>>& list, double rate, double l2, std::span<const index> steps,
    const std::function<double()>& loss, const std::function<scores()>& judge, const std::function<void()>& before = [] {});

// f(i) for i in [0, n) on so many threads; the first exception is thrown again.
void for_all(int threads, index n, const std::function<void(index)>& f);

// A row for every method and number of steps: the rate is the best on `choosing`, the scores are means over `reported`.
std::vector<row> compare(const char* label, int threads, std::span<const method> methods, std::span<const unsigned> choosing,
                         std::span<const unsigned> reported);

}  // namespace s0
