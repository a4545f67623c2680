// The program itself: exit codes, the sentence on standard error, and nothing written where it fails.
#include <weft/io/safetensors_writer.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "catch.hpp"
#include "difference.hpp"

namespace {

namespace fs = std::filesystem;

const fs::path data = fs::path(WEFT_TEST_DATA) / "golden";

// A folder of its own, removed at the end.
struct workplace {
  fs::path folder;
  workplace() {
    std::string name = (fs::temp_directory_path() / "run_op-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder = name;
  }
  workplace(const workplace&) = delete;
  ~workplace() { fs::remove_all(folder); }
  fs::path out() const { return folder / "out.safetensors"; }
  std::size_t files() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator())); }
};

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct outcome {
  int code = -1;
  std::string output, errors;
};

outcome run(const std::string& arguments) {
  const workplace w;
  const fs::path out = w.folder / "stdout", err = w.folder / "stderr";
  const int status = std::system(("'" WEFT_RUN_OP "' " + arguments + " > '" + out.string() + "' 2> '" + err.string() + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(out), text_of(err)};
}

std::string quote(const fs::path& p) { return "'" + p.string() + "'"; }

// Fails with this code and one sentence that names `thing`; the folder stays empty.
void fails(const std::string& arguments, int code, const std::string& thing) {
  const workplace w;
  const outcome r = run(arguments + " --out " + quote(w.out()));
  CAPTURE(arguments, r.errors);
  CHECK(r.code == code);
  CHECK(r.errors.find(thing) != std::string::npos);
  CHECK(std::count(r.errors.begin(), r.errors.end(), '\n') == 1);
  CHECK(r.output.empty());
  CHECK(w.files() == 0);
}

}  // namespace

TEST_CASE("run_op writes the outputs of the operator that the file names, and nothing else") {
  const workplace w;
  for (const std::string mode : {"scan", "literal", "step", "split"}) {
    const outcome r = run(quote(data / "kda__t1_b2_h3.safetensors") + " --threads 2 --mode " + mode + " --out " + quote(w.out()));
    CHECK(r.code == 0);
    CHECK(r.output.empty());
    CHECK(r.errors.empty());
    const auto file = weft::tensor_file::read(w.out());
    CHECK(file.tensors().size() == 2);
    CHECK(file.at("o").type == weft::dtype::f32);
    CHECK(file.at("ht").shape.size() == 4);
    CHECK(w.files() == 1);
  }
}

TEST_CASE("run_op writes empty outputs, too") {
  const workplace w;
  CHECK(run(quote(data / "softmax_attention__t0.safetensors") + " --out " + quote(w.out())).code == 0);
  CHECK(weft::tensor_file::read(w.out()).at("o").shape.at(1) == 0);
}

TEST_CASE("given names and attributes win over the file's") {
  const workplace w;
  const std::string file = quote(data / "gla__t1_no_h0.safetensors");
  const auto distance_from_zero = [&](const std::string& more) {
    CHECK(run(file + more + " --out " + quote(w.out())).code == 0);
    const auto written = weft::tensor_file::read(w.out());
    const auto o = weft::to_array<float, 4>(written.at("o"));
    return test::largest_difference(o, weft::array<float, 4>(o.extent()));
  };
  const double as_stated = distance_from_zero("");
  CHECK(std::isfinite(as_stated));
  CHECK(as_stated > 0);
  CHECK(distance_from_zero(" --attrs '{\"scale\": 0}'") == 0);
  CHECK(distance_from_zero(" --op linear_attention") == as_stated);  // one token from an empty state decays nothing
}

TEST_CASE("a suspicious value is computed as written and named") {
  const workplace w;
  const fs::path file = w.folder / "in.safetensors";
  weft::tensor_writer in;
  const float q[] = {1.f, std::nanf("")};
  in.add("q", weft::dtype::f32, {1, 2, 1, 1}, q);
  in.add("k", weft::dtype::f32, {1, 2, 1, 1}, q);
  in.add("v", weft::dtype::f32, {1, 2, 1, 1}, q);
  in.write(file);
  const outcome r = run(quote(file) + " --op softmax_attention --out " + quote(w.out()));
  CHECK(r.code == 0);
  CHECK(r.errors.find("q: expected finite numbers, got ") != std::string::npos);
  const auto written = weft::tensor_file::read(w.out());
  const auto o = weft::to_array<float, 4>(written.at("o"));
  CHECK(o(0, 0, 0, 0) == 1.f);
  CHECK(std::isnan(o(0, 1, 0, 0)));
}

TEST_CASE("exit code 1: wrong usage and bad input") {
  const std::string good = quote(data / "gla__t1_no_h0.safetensors");
  fails("", 1, "FILE");
  fails(good + " --speed 3", 1, "--speed");
  fails(good + " --threads 0", 1, "--threads");
  fails(good + " --device tpu", 1, "--device");
  fails(good + " --mode backwards", 1, "--mode");
  fails(good + " --op mamba9", 1, "mamba9");
  fails(good + " --attrs '{\"window\": 3}'", 1, "window");
  fails(good + " --attrs '{\"scale\": \"1\"}'", 1, "scale");
  fails(good + " --attrs nonsense", 1, "--attrs");
  fails(good + " --op rwkv6", 1, "u:");
  fails(quote(data / "absent.safetensors"), 1, "absent.safetensors");
  fails(quote(data), 1, "golden");
}

TEST_CASE("exit code 1: a file that lies") {
  const workplace w;
  const fs::path file = w.folder / "lie.safetensors";
  const std::string whole = text_of(data / "gla__t1_no_h0.safetensors");
  for (const std::string& bytes : {whole.substr(0, whole.size() - 1), whole.substr(0, 100), std::string(7, 'x'), std::string(), whole + "x"}) {
    std::ofstream(file, std::ios::binary) << bytes;
    fails(quote(file), 1, "lie.safetensors");
  }
  CHECK(run(quote(data / "gla__t1_no_h0.safetensors") + " --out '/nowhere at all/out'").code == 1);
}

TEST_CASE("exit code 3: requests that mean nothing") {
  fails(quote(data / "l2norm__f64.safetensors") + " --mode step", 3, "l2norm");
  fails(quote(data / "rotary__f64.safetensors") + " --mode literal", 3, "rotary");
  fails(quote(data / "aaren__t1.safetensors") + " --device cuda", 3, "--device");  // no GPU here, or none for this operator
  fails(quote(data / "gla__t1_no_h0.safetensors") + " --device cuda --mode literal", 3, "CPU");
  fails(quote(data / "sliding_window_attention__t20_w1.safetensors") + " --attrs '{\"causal\": false}' --mode split", 3, "causality");
}

TEST_CASE("run_op --help explains itself") {
  const outcome r = run("--help");
  CHECK(r.code == 0);
  CHECK(r.output.find("--attrs") != std::string::npos);
}
