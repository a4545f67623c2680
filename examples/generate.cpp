// generate: continues a text with a byte-level hybrid model.
#include <weft/interop/eigen_pool.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unistd.h>

#include "support/hybrid_model.hpp"
#include "support/program.hpp"
#include "support/sampling.hpp"

namespace {

constexpr weft::index most_tokens = 1'000'000'000;

struct command {
  std::string model, state, save_state;
  std::optional<std::string> prompt;
  weft::index tokens = 64, seed = 0;
  sampling::options sample;
  int threads = 1;
  bool json = false;
};

class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double per_second(weft::index tokens, double seconds) { return tokens > 0 && seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0; }

// The file is written last, long after the text: what would surely fail then is refused now.
void check_target(const std::filesystem::path& path) {
  using weft::errc, weft::require;
  std::error_code failed;  // of a path that cannot even be looked at: as if nothing were there
  const auto found = std::filesystem::status(path, failed);
  require(!std::filesystem::exists(found) || std::filesystem::is_regular_file(found), errc::file, "--save-state: ", path.string(), ": expected a regular file or none, found ",
          std::filesystem::is_directory(found) ? "a folder" : "something else");
  const auto folder = std::filesystem::absolute(path).parent_path();
  require(std::filesystem::is_directory(folder, failed), errc::file, "--save-state: ", path.string(), ": expected a folder at ", folder.string(), ", found none");
  require(::access(folder.c_str(), W_OK | X_OK) == 0, errc::file, "--save-state: ", path.string(), ": expected a folder that can be written, found ", folder.string());
}

void check(const command& c) {
  using weft::errc, weft::require;
  require(c.tokens >= 0 && c.tokens <= most_tokens, errc::value, "--tokens: expected 0 to ", most_tokens, ", got ", c.tokens);
  require(c.seed >= 0, errc::value, "--seed: expected 0 or more, got ", c.seed);
  require(std::isfinite(c.sample.temperature) && c.sample.temperature >= 0, errc::value, "--temperature: expected 0 or more, got ", c.sample.temperature);
  require(c.sample.top_p > 0 && c.sample.top_p <= 1, errc::value, "--top-p: expected more than 0 and at most 1, got ", c.sample.top_p);
  if (!c.save_state.empty()) check_target(c.save_state);
}

std::string prompt_of(const command& c) {
  if (!c.prompt) return {};
  return *c.prompt == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : *c.prompt;
}

std::span<const unsigned char> bytes_of(const std::string& text) { return {reinterpret_cast<const unsigned char*>(text.data()), text.size()}; }

int run(command c) {
  check(c);
  c.sample.seed = static_cast<std::uint64_t>(c.seed);
  const hybrid::model model(c.model);
  hybrid::model_state state = c.state.empty() ? model.state() : model.restore(c.state);
  const std::string prompt = prompt_of(c);
  weft::require(!prompt.empty() || !state.logits.empty(), weft::errc::missing, "--prompt: expected a text to continue, or --state, got neither");
  model.make_room(state, std::ssize(prompt) + c.tokens);

  Eigen::ThreadPool threads(c.threads - 1);  // the calling thread is one more
  weft::eigen_pool pool(threads);
  weft::cpu cpu(pool);
  const stopwatch prefill;
  model.feed(cpu, bytes_of(prompt), state);
  const double prefill_seconds = prefill.seconds();

  std::string text;
  const stopwatch decode;
  for (weft::index i = 0; i < c.tokens; ++i) {
    text += static_cast<char>(sampling::next_byte(state.logits, c.sample, static_cast<std::uint64_t>(state.seen)));
    if (!c.json) {
      std::fputc(text.back(), stdout);
      std::fflush(stdout);
    }
    if (i + 1 < c.tokens || !c.save_state.empty()) model.feed(cpu, bytes_of(text).last(1), state);
  }
  const double prefill_rate = per_second(std::ssize(prompt), prefill_seconds), decode_rate = per_second(c.tokens, decode.seconds());
  if (!c.save_state.empty()) model.save(state, c.save_state);

  if (c.json) {
    const nlohmann::ordered_json j{{"model", c.model},
                                   {"prompt_tokens", prompt.size()},
                                   {"tokens", c.tokens},
                                   {"text", text},
                                   {"bytes", std::vector<unsigned>(bytes_of(text).begin(), bytes_of(text).end())},
                                   {"prefill_tokens_per_s", prefill_rate},
                                   {"decode_tokens_per_s", decode_rate}};
    std::printf("%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
  weft::require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, weft::errc::file, "standard output: cannot be written");
  std::fprintf(stderr, "prefill %.0f tokens/s, decode %.0f tokens/s\n", prefill_rate, decode_rate);
  return program::done;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("Continues a text with a byte-level hybrid model.", "generate");
  app.add_option("--model", c.model, "folder with config.json and model.safetensors")->required();
  app.add_option("--prompt", c.prompt, "text to continue; - reads standard input");
  app.add_option("--tokens", c.tokens, "bytes to write")->capture_default_str();
  app.add_option("--temperature", c.sample.temperature, "0 takes the most likely byte")->capture_default_str();
  app.add_option("--top-p", c.sample.top_p, "draw among the most likely bytes that together have this probability")->capture_default_str();
  app.add_option("--seed", c.seed, "of the draws")->capture_default_str();
  app.add_option("--state", c.state, "go on from a saved state");
  app.add_option("--save-state", c.save_state, "write the state after the last byte");
  app.add_option("--threads", c.threads, "threads that work on a call")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_flag("--json", c.json, "print one JSON object instead of the text");
  return program::run(app, argc, argv, [&] { return run(c); });
}
