// Training: its checkpoints, its refusals, and the model that it leaves.
#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "../io/files.hpp"
#include "support/hybrid_model.hpp"
#include "support/trainer.hpp"

namespace {

using Catch::Matchers::Contains;
using weft::index;
namespace fs = std::filesystem;

const fs::path tinylm = fs::path(WEFT_EXAMPLE_DATA) / "tinylm";

std::vector<unsigned char> text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.is_open());
  return {std::istreambuf_iterator<char>(in), {}};
}
const std::vector<unsigned char>& text() {
  static const auto t = text_of(tinylm / "heldout.txt");
  return t;
}

hybrid::description small(std::vector<std::string> layers) {
  return {.layers = std::move(layers), .hidden = 24, .inner = 32, .heads = 2, .key_heads = 1, .head_dim = 16, .window = 8};
}
hybrid::training few(index steps) {
  hybrid::training t;
  t.steps = steps, t.batch = 2, t.length = 40, t.warm_up = 2;
  return t;
}
std::vector<std::string> all_layers() { return {hybrid::layer_names().begin(), hybrid::layer_names().end()}; }

std::vector<float> numbers(hybrid::trainer& t) {
  std::vector<float> all;
  for (const auto& p : hybrid::parameters_of(t.model())) all.insert(all.end(), p.numbers.begin(), p.numbers.end());
  return all;
}
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

}  // namespace

TEST_CASE("a run that goes on from a checkpoint gives the bits of the unbroken one, for any number of threads") {
  const files::temporary_folder dir;
  const auto d = small(all_layers());
  weft::cpu cpu;
  hybrid::trainer whole(d, few(6), text()), first(d, few(6), text()), second(d, few(6), text());
  std::vector<double> losses;
  for (int i = 0; i < 6; ++i) losses.push_back(whole.step(cpu));
  for (int i = 0; i < 4; ++i) first.step(cpu);
  first.save(dir / "t.safetensors");
  second.resume(dir / "t.safetensors");
  CHECK(second.done() == 4);
  Eigen::ThreadPool threads(1);
  weft::eigen_pool pool(threads);
  weft::cpu two(pool);
  for (std::size_t i = 4; i < 6; ++i) CHECK(second.step(two) == losses[i]);
  CHECK(same_bits(numbers(whole), numbers(second)));
}

TEST_CASE("every layer learns") {
  std::vector<unsigned char> pattern;
  for (int i = 0; i < 600; ++i) pattern.push_back(static_cast<unsigned char>("abcacbbac"[i % 9]));
  weft::cpu cpu;
  for (const std::string& name : all_layers()) {
    CAPTURE(name);
    auto how = few(40);
    how.rate = 1e-2;
    hybrid::trainer t(small({name}), how, pattern);
    const double before = t.step(cpu);
    double after = before;
    while (t.done() < 40) after = t.step(cpu);
    CHECK(before == Approx(8).margin(0.2));
    CHECK(after < 1.5);  // the order-0 entropy of the pattern is 1.58
  }
}

TEST_CASE("a trained model is one that generate runs") {
  const files::temporary_folder dir;
  const auto d = small({"gdn", "mamba2", "swa"});
  weft::cpu cpu;
  hybrid::trainer t(d, few(3), text());
  while (t.done() < 3) t.step(cpu);
  weft::tensor_writer writer;
  hybrid::add_parameters(t.model(), writer);
  writer.write(dir / "model.safetensors");
  std::ofstream(dir / "config.json") << hybrid::config_text(d);
  const hybrid::model m(dir.path);
  const auto part = std::span(text()).first(700);
  CHECK(hybrid::bits_per_byte(cpu, m.weights(), part, 300) == hybrid::bits_per_byte(cpu, t.model(), part, 300));

  auto state = m.state();  // byte by byte as in one piece
  m.make_room(state, 100);
  auto once = state;
  m.feed(cpu, part.first(100), once);
  for (std::size_t i = 0; i < 100; ++i) m.feed(cpu, part.subspan(i, 1), state);
  for (std::size_t i = 0; i < once.logits.size(); ++i) CHECK(state.logits[i] == Approx(once.logits[i]).margin(1e-5));
}

TEST_CASE("bits a byte are measured as the published model's were") {
  weft::cpu cpu;
  const hybrid::model m(tinylm);
  CHECK(hybrid::bits_per_byte(cpu, m.weights(), text()) == Approx(2.0579).margin(6e-5));
  CHECK(hybrid::bits_per_byte(cpu, m.weights(), text(), 256) == Approx(2.0392).margin(6e-5));
}

TEST_CASE("a gradient that is no number stops the run, names tensor and step, and leaves the checkpoint") {
  const files::temporary_folder dir;
  auto how = few(5);
  how.rate = 1e30, how.warm_up = 0;
  weft::cpu cpu;
  hybrid::trainer t(small({"gdn"}), how, text());
  t.step(cpu);
  t.save(dir / "t.safetensors");
  const auto before = numbers(t);
  CHECK_THROWS_WITH(t.step(cpu), Contains("gradient of in.weight: expected finite numbers") && Contains("in step 1"));
  CHECK(same_bits(before, numbers(t)));
  CHECK(t.done() == 1);
  hybrid::trainer again(small({"gdn"}), how, text());
  again.resume(dir / "t.safetensors");
  CHECK(same_bits(before, numbers(again)));
}

TEST_CASE("a checkpoint of another run is refused, and nothing is changed") {
  const files::temporary_folder dir;
  const auto d = small({"gdn", "swa"});
  weft::cpu cpu;
  hybrid::trainer t(d, few(4), text());
  t.step(cpu);
  t.save(dir / "t.safetensors");
  const auto refused = [&](const hybrid::description& shape, const hybrid::training& how, std::span<const unsigned char> on, const std::string& what) {
    hybrid::trainer other(shape, how, on);
    const auto before = numbers(other);
    CHECK_THROWS_WITH(other.resume(dir / "t.safetensors"), Contains(what));
    CHECK(same_bits(before, numbers(other)));
    CHECK(other.done() == 0);
  };
  auto how = few(4);
  how.rate = 1e-3;
  refused(d, how, text(), "metadata rate: expected");
  refused(d, few(5), text(), "metadata steps: expected \"5\", as this run has it, got \"4\"");
  refused(d, few(4), std::span(text()).first(1000), "metadata text: expected");
  refused(small({"gdn", "full"}), few(4), text(), "metadata model: expected");
  fs::resize_file(dir / "t.safetensors", fs::file_size(dir / "t.safetensors") - 8);
  refused(d, few(4), text(), "t.safetensors");
  refused(d, few(4), text(), "t.safetensors");
}

TEST_CASE("texts, layers and options that cannot be trained on are refused by name") {
  const auto make = [](const hybrid::description& d, const hybrid::training& how, std::size_t bytes) { hybrid::trainer t(d, how, std::span(text()).first(bytes)); };
  CHECK_THROWS_WITH(make(small({"gdn"}), few(1), 0), Contains("text: expected at least two bytes to train on, got 0"));
  CHECK_THROWS_WITH(make(small({"gdn"}), few(1), 1), Contains("text: expected at least two bytes to train on, got 1"));
  CHECK_THROWS_WITH(make(small({"gdn", "lstm"}), few(1), 100), Contains("layers: expected some of gdn, ") && Contains("got \"lstm\""));
  CHECK_THROWS_WITH(make(small({}), few(1), 100), Contains("layers: expected 1 to 1024, got 0"));
  auto d = small({"full"});
  d.key_heads = 3;
  CHECK_THROWS_WITH(make(d, few(1), 100), Contains("key_heads: expected a divisor of 2 heads, got 3"));
  auto how = few(1);
  how.batch = 0;
  CHECK_THROWS_WITH(make(small({"gdn"}), how, 100), Contains("batch: expected 1"));
  how = few(1);
  how.rate = std::nan("");
  CHECK_THROWS_WITH(make(small({"gdn"}), how, 100), Contains("rate: expected a positive number"));
  weft::cpu cpu;  // the least text there is
  hybrid::trainer t(small({"gdn"}), few(1), std::span(text()).first(2));
  CHECK(t.step(cpu) > 7);
}
