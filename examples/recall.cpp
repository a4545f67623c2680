// recall: what each kind of state can hold. Pairs to recall and words of permutations stream through mixers by name, with
// keys, values and gates built by hand; nothing is learned, so what is missed is the state's limit and not a training's.
#include <weft/core/check.hpp>
#include <weft/interop/eigen_pool.hpp>
#include <weft/io/atomic_file.hpp>

#include <cstdio>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include "support/heat_map.hpp"
#include "support/program.hpp"
#include "support/recall_tasks.hpp"

namespace {

using weft::index;

constexpr double held = 0.95;
constexpr recall::task tasks[] = {recall::task::pairs, recall::task::rewrites, recall::task::swaps, recall::task::words};

struct command {
  std::vector<std::string> mixers;
  std::string svg;
  int threads = 1;
  unsigned seed = 1;
  bool quick = false;
};

// The largest size up to which so many answers are right; 0: none.
index size_held(const recall::outcome& o, const std::vector<index>& sizes) {
  index most = 0;
  for (std::size_t i = 0; i < sizes.size() && o.right[i] >= held; ++i) most = sizes[i];
  return most;
}

std::string bytes_of(const std::vector<recall::outcome>& o) { return std::to_string(o.front().bytes) + " / " + std::to_string(o.back().bytes); }

std::string picture(const recall::sizes& sizes, const std::vector<heat_map::row>& rows) {
  const char* titles[] = {"pairs", "rewrites of 16 keys", "words of swaps", "words of S3"};
  const char* under[] = {"pairs written, then all asked for", "writes, then the last values asked for", "letters; chance 33", "letters; chance 17"};
  std::vector<heat_map::panel> panels;
  for (const recall::task t : tasks) {
    auto& p = panels.emplace_back(heat_map::panel{titles[static_cast<std::size_t>(t)], under[static_cast<std::size_t>(t)], {}});
    for (const index size : sizes.of(t)) p.columns.push_back(std::to_string(size));
  }
  return heat_map::draw("What a state can hold", {"Right answers in percent. Keys, values and gates are built by hand, nothing is learned.",
                                                  "Beside the name: bytes of the state in the tasks of keys / of words, at their largest size."},
                        panels, rows);
}

int run(const command& c) {
  std::vector<const recall::mixer*> chosen;
  for (const std::string& name : c.mixers) chosen.push_back(&recall::find_mixer(name));
  if (chosen.empty())
    for (const recall::mixer& m : recall::all_mixers()) chosen.push_back(&m);
  recall::sizes sizes{.writes = {8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512}, .letters = {1, 3, 9, 33, 129, 513}};
  if (c.quick) sizes = {.writes = {16, 64, 128}, .letters = {1, 9, 129}, .words = 64};

  std::optional<weft::io::atomic_file> svg;  // a path that cannot be written to is refused now
  if (!c.svg.empty()) svg.emplace(c.svg);

  Eigen::ThreadPool threads(c.threads - 1);  // the calling thread is one more
  weft::eigen_pool pool(threads);
  weft::cpu cpu(pool);
  std::printf("Held: the largest size of which at least %.0f %% of the answers are right, and of all smaller ones.\n\n", 100 * held);
  std::printf("%-28s %16s %6s %9s %6s %6s  %s\n", "mixer", "state bytes", "pairs", "rewrites", "swaps", "words", "how it is used");
  std::vector<heat_map::row> rows;
  std::vector<std::string> missed;
  for (const recall::mixer* m : chosen) {
    if (::isatty(STDERR_FILENO)) std::fprintf(stderr, "\r%3zu of %zu\r", rows.size() + 1, chosen.size());
    std::vector<recall::outcome> outcomes;
    auto& row = rows.emplace_back();
    for (const recall::task t : tasks) {
      outcomes.push_back(recall::run(cpu, *m, t, sizes, c.seed));
      row.shares.push_back(outcomes.back().right);
      if (const std::string what = recall::missed(*m, t, outcomes.back()); !what.empty()) missed.push_back(what);
    }
    row.name = m->name;
    row.note = bytes_of(outcomes);
    const auto most = [&](recall::task t) { return static_cast<long long>(size_held(outcomes[static_cast<std::size_t>(t)], sizes.of(t))); };
    std::printf("%-28s %16s %6lld %9lld %6lld %6lld  %s\n", row.name.c_str(), row.note.c_str(), most(tasks[0]), most(tasks[1]), most(tasks[2]), most(tasks[3]),
                recall::way(*m).c_str());
    std::fflush(stdout);
  }
  weft::require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, weft::errc::file, "standard output: cannot be written");
  if (svg) {
    const std::string drawn = picture(sizes, rows);
    svg->write(drawn.data(), drawn.size());
    svg->commit();
  }
  for (const std::string& what : missed) std::fprintf(stderr, "recall: %s\n", what.c_str());
  return missed.empty() ? program::done : program::missed;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("Streams pairs to recall and words of permutations through mixers by name and shows what their states hold.", "recall");
  app.add_option("--mixers", c.mixers, "names, separated by commas; all where absent")->delimiter(',');
  app.add_option("--svg", c.svg, "write a picture of all shares to this file");
  app.add_option("--seed", c.seed, "of keys, values and words")->capture_default_str();
  app.add_option("--threads", c.threads, "threads that work on a call")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_flag("--quick", c.quick, "fewer and smaller streams");
  return program::run(app, argc, argv, [&] { return run(c); });
}
