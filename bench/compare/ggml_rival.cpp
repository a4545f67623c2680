// One operator of an installed ggml, driven by rivals_ggml.py over standard input and output.
//
//   ggml_rival OPERATOR TOKENS KEYS WIDTH HEADS THREADS INPUT OUTPUT
//
// INPUT holds the operator's tensors as float32, one after another, in the order in which they are made below. Commands, a line
// each: "run" computes once and writes the result to OUTPUT; "time SECONDS" prints the seconds of single
// calls on one line, "cpu  SECONDS" by the processor time of the process.
#include <time.h>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct problem {
  std::string op;
  std::int64_t tokens, keys, width, heads;
};

struct graph {
  ggml_context* context = ggml_init({std::size_t{1} << 20, nullptr, true});
  std::vector<ggml_tensor*> inputs;
  ggml_tensor* result = nullptr;

  ggml_tensor* input(std::int64_t a, std::int64_t b = 1, std::int64_t c = 1, std::int64_t d = 1, ggml_type type = GGML_TYPE_F32) {
    inputs.push_back(ggml_new_tensor_4d(context, type, a, b, c, d));
    return inputs.back();
  }
};

// The order of `input` calls is the order of tensors in the file, so each has a statement of its own.
ggml_tensor* build(graph& g, const problem& p) {
  const auto d = p.width, h = p.heads, t = p.tokens;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  if (p.op == "gated_delta_net" || p.op == "gated_delta_net_channels") {
    auto* q = g.input(d, h, t);
    auto* k = g.input(d, h, t);
    auto* v = g.input(d, h, t);
    auto* decay = g.input(p.op == "gated_delta_net" ? 1 : d, h, t);
    auto* beta = g.input(1, h, t);
    auto* state = g.input(d, d, h);
    return ggml_gated_delta_net(g.context, q, k, v, decay, beta, state, 1);
  }
  if (p.op == "gated_linear_attn") {
    auto* q = g.input(d, h, t);
    auto* k = g.input(d, h, t);
    auto* v = g.input(d, h, t);
    auto* decay = g.input(d, h, t);
    auto* state = g.input(d * d * h, 1);
    return ggml_gated_linear_attn(g.context, k, v, q, decay, state, scale);
  }
  if (p.op == "rwkv_wkv7") {
    ggml_tensor* x[6];
    for (auto*& each : x) each = g.input(d, h, t);
    auto* state = g.input(d * d * h, 1);
    return ggml_rwkv_wkv7(g.context, x[0], x[1], x[2], x[3], x[4], x[5], state);
  }
  if (p.op == "ssm_scan") {
    auto* state = g.input(d, d, h);
    auto* x = g.input(d, h, t);
    auto* dt = g.input(h, t);
    auto* a = g.input(1, h);
    auto* b = g.input(d, 1, t);
    auto* c = g.input(d, 1, t);
    auto* row = g.input(1, 1, 1, 1, GGML_TYPE_I32);
    return ggml_ssm_scan(g.context, state, x, dt, a, b, c, row, 1);
  }
  if (p.op == "ssm_conv") {
    auto* x = g.input(t + 3, d * h);
    auto* weight = g.input(4, d * h);
    return ggml_ssm_conv(g.context, x, weight);
  }
  if (p.op == "flash_attn") {
    auto* q = g.input(d, t, h);
    auto* k = g.input(d, p.keys, h);
    auto* v = g.input(d, p.keys, h);
    auto* mask = t > 1 ? g.input(p.keys, t, 1, 1, GGML_TYPE_F16) : nullptr;
    return ggml_flash_attn_ext(g.context, q, k, v, mask, scale, 0, 0);
  }
  return nullptr;
}

// Every type comes as float32.
bool fill(ggml_tensor* x, std::ifstream& from) {
  std::vector<float> values(static_cast<std::size_t>(ggml_nelements(x)));
  if (!from.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)))) return false;
  if (x->type == GGML_TYPE_F32) {
    ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
  } else if (x->type == GGML_TYPE_F16) {
    std::vector<ggml_fp16_t> half(values.size());
    ggml_fp32_to_fp16_row(values.data(), half.data(), static_cast<std::int64_t>(values.size()));
    ggml_backend_tensor_set(x, half.data(), 0, ggml_nbytes(x));
  } else {
    const auto whole = static_cast<std::int32_t>(values[0]);
    ggml_backend_tensor_set(x, &whole, 0, sizeof whole);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) return std::fprintf(stderr, "ggml_rival: expected 8 arguments, got %d\n", argc - 1), 1;
  const problem p{argv[1], std::stoll(argv[2]), std::stoll(argv[3]), std::stoll(argv[4]), std::stoll(argv[5])};
  ggml_backend_t backend = ggml_backend_cpu_init();
  ggml_backend_cpu_set_n_threads(backend, std::stoi(argv[6]));
  graph g;
  ggml_tensor* result = build(g, p);
  if (!result) return std::fprintf(stderr, "ggml_rival: unknown operator %s\n", argv[1]), 1;
  ggml_cgraph* plan = ggml_new_graph(g.context);
  ggml_build_forward_expand(plan, result);
  ggml_backend_alloc_ctx_tensors(g.context, backend);
  std::ifstream from(argv[7], std::ios::binary);
  for (ggml_tensor* x : g.inputs)
    if (!fill(x, from)) return std::fprintf(stderr, "ggml_rival: %s ends too early\n", argv[7]), 1;
  const auto call = [&] { ggml_backend_graph_compute(backend, plan); };

  for (std::string line; std::getline(std::cin, line);) {
    if (line == "run") {
      call();
      std::vector<char> bytes(ggml_nbytes(result));
      ggml_backend_tensor_get(result, bytes.data(), 0, bytes.size());
      std::ofstream(argv[8], std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      std::cout << "done" << std::endl;
    } else {
      const double budget = std::stod(line.substr(5));
      const clockid_t clock = line.starts_with("cpu") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
      call();
      double begin = now(clock);
      call();
      const int group = std::max(1, static_cast<int>(2e-3 / std::max(now(clock) - begin, 1e-8)));
      std::ostringstream out;
      const double start = now(clock);
      for (int n = 0; n < 3 || now(clock) - start < budget; ++n) {
        begin = now(clock);
        for (int i = 0; i < group; ++i) call();
        out << (now(clock) - begin) / group << ' ';
      }
      std::cout << out.str() << std::endl;
    }
  }
  ggml_backend_free(backend);
}
