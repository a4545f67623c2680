// The tiny trained model, held against the published model's numbers.
#include "../catch.hpp"
#include "../difference.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "support/hybrid_model.hpp"
#include "support/sampling.hpp"

namespace {

using namespace weft;
using weft::index;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

const fs::path folder = fs::path(WEFT_EXAMPLE_DATA) / "tinylm";

struct reference {
  tensor_file file = tensor_file::read(folder / "reference.safetensors");
  array<std::uint8_t, 1> prompt = to_array<std::uint8_t, 1>(file.at("prompt"));
  array<std::uint8_t, 1> continuation = to_array<std::uint8_t, 1>(file.at("continuation"));

  std::span<const unsigned char> bytes() const { return {prompt.data(), static_cast<std::size_t>(prompt.size())}; }
  std::string expected() const { return {continuation.data(), continuation.data() + continuation.size()}; }
};

// So many more bytes.
std::string go_on(const hybrid::model& model, cpu& executor, hybrid::model_state& state, index count, const sampling::options& o = {}) {
  model.make_room(state, count);
  std::string text;
  for (index i = 0; i < count; ++i) {
    const unsigned char next = sampling::next_byte(state.logits, o, static_cast<std::uint64_t>(state.seen));
    text += static_cast<char>(next);
    model.feed(executor, std::span(&next, 1), state);
  }
  return text;
}

hybrid::model_state after_prompt(const hybrid::model& model, cpu& executor, std::span<const unsigned char> prompt) {
  auto state = model.state();
  model.make_room(state, std::ssize(prompt));
  model.feed(executor, prompt, state);
  return state;
}

double distance(std::span<const float> got, const float* stored) {
  return test::largest_difference(got, std::span(stored, got.size()));
}

// Four times the published model's own float32 error on its logits.
constexpr double bound = 4 * 1.5e-5;

TEST_CASE("the model's logits are the published ones, byte by byte and at once") {
  const hybrid::model model(folder);
  const reference r;
  cpu executor;
  const auto logits = to_array<float, 2>(r.file.at("logits"));
  auto state = model.state();
  model.make_room(state, r.prompt.size());
  for (index t = 0; t < r.prompt.size(); ++t) {
    model.feed(executor, r.bytes().subspan(static_cast<std::size_t>(t), 1), state);
    CHECK(distance(state.logits, &logits(t, 0)) < bound);
  }
  const auto once = after_prompt(model, executor, r.bytes());
  CHECK(distance(once.logits, &logits(r.prompt.size() - 1, 0)) < bound);
  CHECK(once.seen == r.prompt.size());
}

TEST_CASE("the greedy continuation is the published one, byte for byte, and its logits too") {
  const hybrid::model model(folder);
  const reference r;
  cpu executor;
  auto state = after_prompt(model, executor, r.bytes());
  const auto logits = to_array<float, 2>(r.file.at("continuation_logits"));
  std::string text;
  for (index i = 0; i < r.continuation.size(); ++i) {
    CHECK(distance(state.logits, &logits(i, 0)) < bound);
    text += go_on(model, executor, state, 1);
  }
  CHECK(text == r.expected());
}

TEST_CASE("a saved state goes on as if never stopped, greedy and drawn") {
  const hybrid::model model(folder);
  const reference r;
  cpu executor;
  const auto path = fs::temp_directory_path() / "weft_hybrid_state.safetensors";
  for (const auto& o : {sampling::options{}, sampling::options{.temperature = 0.8, .top_p = 0.9, .seed = 7}}) {
    auto unbroken = after_prompt(model, executor, r.bytes()), first = unbroken;
    const std::string all = go_on(model, executor, unbroken, 40, o);
    const std::string start = go_on(model, executor, first, 13, o);
    model.save(first, path);
    auto second = model.restore(path);
    CHECK(second.seen == first.seen);
    CHECK(start + go_on(model, executor, second, 27, o) == all);
  }
  fs::remove(path);
}

TEST_CASE("states that are not this model's are refused by name") {
  const auto other = fs::temp_directory_path() / "weft_other_model", path = fs::temp_directory_path() / "weft_hybrid_state.safetensors";
  fs::create_directories(other);
  fs::copy_file(folder / "config.json", other / "config.json", fs::copy_options::overwrite_existing);
  const auto file = tensor_file::read(folder / "model.safetensors");
  tensor_writer writer;
  for (const tensor& t : file.tensors()) {
    auto copy = to_array<float, 1>([&] {
      tensor flat = t;
      flat.shape = {t.count()};
      return flat;
    }());
    if (t.name == "model.norm.weight") copy(0) += 1.0f;
    writer.add(t.name, t.type, t.shape, copy.data());
  }
  writer.write(other / "model.safetensors");

  const hybrid::model model(folder), neighbour(other);
  cpu executor;
  const reference r;
  neighbour.save(after_prompt(neighbour, executor, r.bytes().first(5)), path);
  CHECK_THROWS_WITH(model.restore(path), Contains("the state of another model"));
  CHECK_THROWS_WITH(model.restore(folder / "model.safetensors"), Contains("metadata format"));
  CHECK_THROWS_WITH(model.restore(folder / "nothing"), Contains("nothing"));

  // A number that is none in some layer's state, and a part too many.
  model.save(after_prompt(model, executor, r.bytes().first(5)), path);
  const auto spoilt = [&](const std::string& name) {
    const auto saved = tensor_file::read(path);
    tensor_writer again;
    for (const auto& [key, value] : saved.metadata()) again.metadata(key, value);
    const std::vector<unsigned char> nan(1 << 20, 0xff);
    for (const tensor& t : saved.tensors()) again.add(t.name, t.type, t.shape, t.name == name ? static_cast<const void*>(nan.data()) : t.data);
    if (!saved.find(name)) again.add(name, dtype::f32, {1}, nan.data());
    const auto to = fs::temp_directory_path() / "weft_spoilt_state.safetensors";
    again.write(to);
    std::string message;
    try {
      model.restore(to);
    } catch (const weft::error& e) {
      message = e.what();
    }
    fs::remove(to);
    return message;
  };
  for (const tensor& t : tensor_file::read(path).tensors())
    if (t.type == dtype::f32) CHECK_THAT(spoilt(t.name), Contains("tensor " + t.name + ": expected finite numbers, got") && Contains("nan"));
  CHECK_THAT(spoilt("layer.99.matrix"), Contains("tensor layer.99.matrix: expected a part of this model's state"));

  const auto size = fs::file_size(path);
  fs::resize_file(path, size - 4);
  CHECK_THROWS_AS(model.restore(path), weft::error);
  fs::remove(path);
  fs::remove_all(other);
}

TEST_CASE("a model that is missing or broken is refused by name") {
  const auto broken = fs::temp_directory_path() / "weft_broken_model";
  fs::create_directories(broken);
  CHECK_THROWS_WITH(hybrid::model(broken), Contains("config.json"));
  std::ifstream in(folder / "config.json");
  const std::string config{std::istreambuf_iterator<char>(in), {}};
  const auto with = [&](const std::string& text) {
    std::ofstream(broken / "config.json") << text;
    return [&] { hybrid::model m(broken); };
  };
  CHECK_THROWS_WITH(with(config)(), Contains("model.safetensors"));
  fs::copy_file(folder / "model.safetensors", broken / "model.safetensors", fs::copy_options::overwrite_existing);
  CHECK_NOTHROW(with(config)());
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  CHECK_THROWS_WITH(with("")(), Contains("config.json: expected a JSON object, got an empty text"));
  CHECK_THROWS_WITH(with("{")(), Contains("expected JSON, got something else at byte 2"));
  CHECK_THROWS_WITH(with(std::string(100000, '['))(), Contains("expected JSON of at most 64 levels"));
  CHECK_THROWS_WITH(with("[]")(), Contains("expected a JSON object, got array"));
  CHECK_THROWS_WITH(with(replaced("\"hidden_size\": 64", "\"hidden_size\": 64" + std::string(300, '0')))(), Contains("hidden_size: expected a whole number from 1 to 2^24, got 6.4e+301"));
  CHECK_THROWS_WITH(with(replaced("\"hidden_size\": 64", "\"hidden_size\": 64" + std::string(400, '0')))(), Contains("expected JSON whose numbers a double can hold"));
  CHECK_THROWS_WITH(with(replaced("\"hidden_size\": 64", "\"hidden_size\": 32"))(), Contains("embed_tokens.weight") && Contains("[256, 32]"));
  CHECK_THROWS_WITH(with(replaced("\"vocab_size\": 256", "\"vocab_size\": 512"))(), Contains("vocab_size"));
  CHECK_THROWS_WITH(with(replaced("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"))(), Contains("layer_types.4"));
  CHECK_THROWS_WITH(with(replaced("full_attention", "sliding_attention"))(), Contains("layer_types"));
  const float not_a_number = std::numeric_limits<float>::quiet_NaN();
  std::fstream(broken / "model.safetensors", std::ios::binary | std::ios::in | std::ios::out).seekp(-4, std::ios::end).write(reinterpret_cast<const char*>(&not_a_number), 4);
  CHECK_THROWS_WITH(with(config)(), Contains("tensor \"model.norm.weight\": expected finite numbers, got "));
  fs::resize_file(broken / "model.safetensors", fs::file_size(broken / "model.safetensors") / 2);
  CHECK_THROWS_WITH(with(config)(), Contains("model.safetensors"));
  fs::remove_all(broken);
}

TEST_CASE("sampling keeps to the nucleus and follows the probabilities") {
  std::vector<float> logits(256, -100.0f);
  logits[10] = std::log(0.5f);
  logits[20] = std::log(0.3f);
  logits[30] = std::log(0.2f);
  std::array<int, 256> hits{};
  for (std::uint64_t i = 0; i < 20000; ++i) ++hits[sampling::next_byte(logits, {.temperature = 1, .top_p = 1, .seed = 3}, i)];
  CHECK(hits[10] == Approx(10000).margin(300));
  CHECK(hits[20] == Approx(6000).margin(300));
  CHECK(hits[30] == Approx(4000).margin(300));
  hits = {};
  for (std::uint64_t i = 0; i < 20000; ++i) ++hits[sampling::next_byte(logits, {.temperature = 1, .top_p = 0.6, .seed = 3}, i)];
  CHECK(hits[30] == 0);
  CHECK(hits[10] == Approx(12500).margin(300));
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(sampling::next_byte(logits, {.temperature = 1, .top_p = 0.1, .seed = 3}, i) == 10);
  CHECK(sampling::next_byte(logits, {}, 0) == 10);
}

}  // namespace
