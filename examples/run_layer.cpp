// run_layer FILE: a published layer's parameters and inputs through ours, held against what the published layer computed.
#include <weft/interop/eigen_pool.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "support/layer_file.hpp"
#include "support/layers.hpp"
#include "support/program.hpp"

namespace {

struct command {
  std::string file, dtype = "float", device = "cpu";
  int threads = 1;
  bool json = false;
};

struct speed {
  double prefill = 0, decode = 0;  // tokens a second
};

// The best of repeated calls, for a fifth of a second and at least three times.
template <class F>
double best_seconds(F&& f) {
  using clock = std::chrono::steady_clock;
  double best = std::numeric_limits<double>::infinity(), total = 0;
  for (int i = 0; i < 3 || (total < 0.2 && i < 10000); ++i) {
    const auto start = clock::now();
    f();
    const double s = std::chrono::duration<double>(clock::now() - start).count();
    best = std::min(best, s);
    total += s;
  }
  return best;
}

void print(const command& c, const layer_file::report& r, const speed& s) {
  const auto relative = [](const layer_file::comparison& t) { return t.relative(); };
  const auto max_abs = [](const layer_file::comparison& t) { return t.max_abs; };
  if (c.json) {
    const nlohmann::ordered_json j{{"file", c.file},
                                   {"class", r.layer_class},
                                   {"parameters", r.parameters},
                                   {"hidden", r.hidden},
                                   {"tokens", r.tokens},
                                   {"batch", r.batch},
                                   {"state_bytes", r.state_bytes},
                                   {"prefill_tokens_per_s", s.prefill},
                                   {"decode_tokens_per_s", s.decode},
                                   {"rel_err_prefill", r.largest({"output"}, relative)},
                                   {"rel_err_decode", r.largest({"decode_output"}, relative)},
                                   {"rel_err_state", r.largest({"state.", "final."}, relative)},
                                   {"max_abs_err", r.largest({""}, max_abs)},
                                   {"holds", r.holds()}};
    std::printf("%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("%s: %lld parameters, hidden %lld, batch %lld, %lld tokens, state of %lld bytes\n", r.layer_class.c_str(), static_cast<long long>(r.parameters),
              static_cast<long long>(r.hidden), static_cast<long long>(r.batch), static_cast<long long>(r.tokens), static_cast<long long>(r.state_bytes));
  for (const auto& t : r.tensors)
    std::printf("  %-26s largest error %.1e, rms error %.1e of rms %.2e  %s\n", t.name.c_str(), t.max_abs, t.rms_error, t.rms, t.holds ? "holds" : "MISSES");
  std::printf("  prefill %.0f tokens/s, decode %.0f tokens/s\n", s.prefill, s.decode);
}

template <class T>
int run(const command& c) {
  const auto file = weft::tensor_file::read(c.file);
  Eigen::ThreadPool threads(c.threads - 1);  // the calling thread is one more
  weft::eigen_pool pool(threads);
  weft::cpu cpu(pool);
  layer_file::run<T> layer(file, layers::known<T>());
  layer.prefill(cpu);
  layer.decode(cpu);
  const layer_file::report& r = layer.compare();

  const auto per_second = [&](weft::index tokens, double seconds) { return static_cast<double>(tokens * r.batch) / seconds; };
  speed s;
  s.prefill = per_second(r.tokens, best_seconds([&] { layer.prefill(cpu); }));
  s.decode = per_second(layer.decode_tokens(), best_seconds([&] { layer.decode(cpu); }));
  print(c, r, s);
  if (r.holds()) return program::done;
  for (const auto& t : r.tensors)
    if (!t.holds) std::fprintf(stderr, "run_layer: %s: expected an error of at most %.2e, got %.2e\n", t.name.c_str(), t.bound, sizeof(T) == 2 ? t.rms_error : t.max_abs);
  return program::missed;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("A published layer through weft, held against what it computed.", "run_layer");
  app.add_option("FILE", c.file, "a layer's parameters, inputs, outputs and states (.safetensors)")->required();
  app.add_option("--threads", c.threads, "threads that work on a call")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--dtype", c.dtype, "float, bf16 or fp16: what parameters, inputs and outputs are stored in")->check(CLI::IsMember({"float", "bf16", "fp16"}))->capture_default_str();
  program::add_device(app, c.device);
  app.add_flag("--json", c.json, "print one JSON object");
  return program::run(app, argc, argv, [&] {
    program::require_cpu(c.device);
    if (c.dtype == "bf16") return run<weft::bf16>(c);
    if (c.dtype == "fp16") return run<weft::fp16>(c);
    return run<float>(c);
  });
}
