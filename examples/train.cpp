// train: a small hybrid byte-level language model from scratch on a text file.
#include <weft/interop/eigen_pool.hpp>

#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <unistd.h>

#include "support/hybrid_model.hpp"
#include "support/program.hpp"
#include "support/trainer.hpp"

namespace {

namespace fs = std::filesystem;
using weft::errc;
using weft::index;
using weft::require;

struct command {
  std::string text, heldout, out, beside;
  hybrid::description shape{.layers = {"gdn", "gdn", "gdn", "full"}};
  hybrid::training how;
  index checkpoint_every = 100, stop_after = 0;
  bool resume = false, quick = false, json = false;
  int threads = 1;
};

using bytes = std::vector<unsigned char>;

bytes read_bytes(const std::string& path, const char* option) {
  std::ifstream in(path, std::ios::binary);
  require(in.is_open() && fs::is_regular_file(path), errc::file, option, ": ", path, ": expected a file that can be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

// The last tenth of a text is held back where no other text is given.
struct texts {
  bytes all, other;
  std::span<const unsigned char> training, heldout;

  explicit texts(const command& c) : all(read_bytes(c.text, "--text")) {
    require(all.size() >= 2, errc::value, "--text: ", c.text, ": expected at least two bytes, got ", all.size());
    training = heldout = all;
    if (c.heldout.empty()) {
      const std::size_t kept = std::max<std::size_t>(2, all.size() - all.size() / 10);
      training = training.first(kept);
      heldout = heldout.subspan(kept);
      return;
    }
    other = read_bytes(c.heldout, "--heldout");
    require(other.size() >= 2, errc::value, "--heldout: ", c.heldout, ": expected at least two bytes, got ", other.size());
    heldout = other;
  }
};

void write_text(const fs::path& path, const std::string& text) {
  weft::io::atomic_file file(path);
  file.write(text.data(), text.size());
  file.commit();
}

// What generate runs, and what a run goes on from.
void save(hybrid::trainer& t, const command& c) {
  const fs::path out = c.out;
  t.save(out / "training.safetensors");
  weft::tensor_writer writer;
  hybrid::add_parameters(t.model(), writer);
  writer.write(out / "model.safetensors");
  write_text(out / "config.json", hybrid::config_text(c.shape));
}

int run(command c) {
  if (c.quick) {
    c.how.steps = 20, c.how.batch = 2, c.how.length = 64, c.how.warm_up = 4;
    c.shape.hidden = 32, c.shape.inner = 64, c.shape.head_dim = 16, c.shape.window = 16;
  }
  require(c.checkpoint_every >= 1, errc::value, "--checkpoint-every: expected 1 or more, got ", c.checkpoint_every);
  require(!c.resume || !c.out.empty(), errc::missing, "--resume: expected --out with the checkpoint to go on from, got none");
  const texts t(c);
  std::optional<hybrid::model> beside;
  if (!c.beside.empty()) beside.emplace(c.beside);
  hybrid::trainer trainer(c.shape, c.how, t.training);
  if (c.resume) trainer.resume(fs::path(c.out) / "training.safetensors");
  if (!c.out.empty()) {
    std::error_code failed;
    fs::create_directories(c.out, failed);
    require(fs::is_directory(c.out) && ::access(c.out.c_str(), W_OK | X_OK) == 0, errc::file, "--out: ", c.out, ": expected a folder that can be written");
  }

  Eigen::ThreadPool threads(c.threads - 1);  // the calling thread is one more
  weft::eigen_pool pool(threads);
  weft::cpu cpu(pool);
  const index first = trainer.done(), last = c.stop_after > 0 ? std::min(c.how.steps, first + c.stop_after) : c.how.steps;
  const bool shown = ::isatty(STDERR_FILENO);
  std::deque<double> latest;  // bits a byte
  const auto mean = [&] { return latest.empty() ? 0.0 : std::accumulate(latest.begin(), latest.end(), 0.0) / static_cast<double>(latest.size()); };
  double seconds = 0;
  while (trainer.done() < last) {
    const auto start = std::chrono::steady_clock::now();
    latest.push_back(trainer.step(cpu));
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (latest.size() > 100) latest.pop_front();
    if (!c.out.empty() && (trainer.done() % c.checkpoint_every == 0 || trainer.done() == last)) save(trainer, c);
    if (shown) {
      constexpr int width = 40;
      const int full = static_cast<int>(width * trainer.done() / c.how.steps);
      std::fprintf(stderr, "\r[%.*s%*s] %lld of %lld, %.3f bits a byte ", full, "########################################", width - full, "", static_cast<long long>(trainer.done()),
                   static_cast<long long>(c.how.steps), mean());
    }
  }
  if (shown && trainer.done() > first) std::fputc('\n', stderr);

  nlohmann::ordered_json j{{"layers", c.shape.layers}, {"parameters", trainer.parameters()}, {"steps", trainer.done()}, {"tokens", trainer.done() * trainer.bytes_a_step()}};
  if (!latest.empty()) {
    j["training_bits_per_byte"] = mean();
    j["tokens_per_s"] = static_cast<double>((trainer.done() - first) * trainer.bytes_a_step()) / seconds;
  }
  if (t.heldout.size() >= 2) j["heldout_bits_per_byte"] = hybrid::bits_per_byte(cpu, trainer.model(), t.heldout);
  if (beside && t.heldout.size() >= 2) j["beside_bits_per_byte"] = hybrid::bits_per_byte(cpu, beside->weights(), t.heldout);
  if (c.json) {
    std::printf("%s\n", j.dump().c_str());
  } else {
    const auto line = [&](const char* what, const char* key, const char* format) {
      if (j.contains(key)) std::printf("%-34s", what), std::printf(format, j[key].get<double>()), std::putchar('\n');
    };
    line("parameters", "parameters", "%.0f");
    line("steps", "steps", "%.0f");
    line("tokens", "tokens", "%.0f");
    line("tokens/s", "tokens_per_s", "%.0f");
    line("bits a byte, last 100 batches", "training_bits_per_byte", "%.4f");
    line("bits a byte, held out", "heldout_bits_per_byte", "%.4f");
    line("bits a byte, the model beside", "beside_bits_per_byte", "%.4f");
  }
  require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, errc::file, "standard output: cannot be written");
  return program::done;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("Trains a small hybrid byte-level language model on a text.", "train");
  const auto add = [&](const char* name, auto& value, const char* help) { app.add_option(name, value, help)->capture_default_str(); };
  app.add_option("--text", c.text, "text to train on; its last tenth is held back where --heldout is absent")->required();
  app.add_option("--heldout", c.heldout, "another text, to measure by");
  app.add_option("--out", c.out, "folder for config.json and model.safetensors, which generate runs, and training.safetensors");
  app.add_flag("--resume", c.resume, "go on from the checkpoint in --out, with the same options");
  app.add_option("--beside", c.beside, "folder of a model to measure beside this one");
  app.add_option("--layers", c.shape.layers, "mixers in order: gdn, kda, mamba2, lightning, conv, swa, full, linear_attention, simple_gla, gla, hgrn2, delta_rule, gdn2")->delimiter(',');
  add("--hidden", c.shape.hidden, "channels");
  add("--inner", c.shape.inner, "channels of the feed-forward layers");
  add("--heads", c.shape.heads, "heads of a mixer");
  add("--key-heads", c.shape.key_heads, "key heads of gdn, swa and full");
  add("--head-dim", c.shape.head_dim, "channels of a head");
  add("--window", c.shape.window, "tokens that swa reads");
  add("--steps", c.how.steps, "steps in all");
  add("--batch", c.how.batch, "sequences a step");
  add("--length", c.how.length, "bytes a sequence");
  add("--rate", c.how.rate, "peak of the learning rate");
  add("--warm-up", c.how.warm_up, "steps up to the peak");
  add("--decay", c.how.decay, "weight decay");
  add("--clip", c.how.clip, "largest norm of the gradients");
  add("--seed", c.how.seed, "of the weights and of the places in the text");
  add("--checkpoint-every", c.checkpoint_every, "steps between checkpoints");
  app.add_option("--stop-after", c.stop_after, "stop after so many steps of this run, with a checkpoint");
  add("--threads", c.threads, "threads that work on a call");
  app.get_option("--threads")->check(CLI::Range(1, 1024));
  app.add_flag("--quick", c.quick, "a tiny model and 20 steps");
  app.add_flag("--json", c.json, "print one JSON object");
  return program::run(app, argc, argv, [&] { return run(std::move(c)); });
}
