// run_op FILE: one operator on the tensors of one safetensors file, its outputs in another.
#include <weft/interop/eigen_pool.hpp>
#include <weft/io/safetensors_writer.hpp>

#include <cstdio>
#include <optional>
#include <string>

#include "support/operators.hpp"
#include "support/program.hpp"

namespace {

struct command {
  std::string file, out, mode = "scan", device = "cpu";
  std::optional<std::string> op, attributes;
  bool gradients = false;
  int threads = 1;
};

std::string metadata_or(const weft::tensor_file& file, const std::string& key, const std::string& otherwise) {
  const auto at = file.metadata().find(key);
  return at == file.metadata().end() ? otherwise : at->second;
}

int run(const command& c) {
  const ops::mode mode = ops::parse_mode(c.mode);
  const auto file = weft::tensor_file::read(c.file);
  const std::string name = c.op ? *c.op : metadata_or(file, "operator", "");
  weft::require(c.op || !name.empty(), weft::errc::missing, "--op: expected the name of an operator, since the metadata of ", c.file, " states none");
  const ops::op& which = ops::find_operator(name);

  auto attributes = ops::attributes::parse(metadata_or(file, "attributes", "{}"), "attributes of " + c.file);
  if (c.attributes) attributes.merge(ops::attributes::parse(*c.attributes, "--attrs"));

  Eigen::ThreadPool threads(c.threads - 1);  // the calling thread is one more
  weft::eigen_pool pool(threads);
  weft::cpu cpu(pool);
  const ops::results r = ops::run(which, ops::tensors_of(file), attributes, mode, cpu, c.gradients, c.device == "cuda");

  weft::tensor_writer out;
  for (const auto& [tensor, t] : r.outputs) out.add(tensor, t.type, t.shape, t.bytes.data());
  out.write(c.out);
  for (const std::string& warning : r.warnings) std::fprintf(stderr, "run_op: computed as written: %s\n", warning.c_str());
  return program::done;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("One sequence-mixing operator on the tensors of one safetensors file.", "run_op");
  app.add_option("FILE", c.file, "inputs; its metadata may name the operator and its attributes")->required();
  app.add_option("--op", c.op, "operator, over the file's");
  app.add_option("--attrs", c.attributes, "attributes as a flat JSON object, over the file's");
  app.add_option("--mode", c.mode, "literal, scan, step or split")->capture_default_str();
  app.add_flag("--grad", c.gradients, "write the gradients for the cotangents in the file, too");
  program::add_device(app, c.device);
  app.add_option("--threads", c.threads, "threads that work on the call")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--out", c.out, "file for the outputs")->required();
  return program::run(app, argc, argv, [&] {
    try {
      return run(c);
    } catch (const ops::no_meaning& e) {
      throw program::meaningless(e.what());
    }
  });
}
