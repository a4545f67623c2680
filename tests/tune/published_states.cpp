#include "../catch.hpp"

#include <fstream>
#include <limits>

#include <unistd.h>

#include <weft/attention/cache.hpp>
#include <weft/recurrence/all.hpp>
#include <weft/tune/published_states.hpp>

#include "../layer/random.hpp"

namespace {

using namespace weft;
using Catch::Matchers::Contains;
using weft::index;

using state_type = recurrent_state<float>;

struct folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("weft_test_published_" + std::to_string(::getpid()));
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
  void write(const char* name, const std::string& text) const { std::ofstream(path / name) << text; }
  std::string read(const char* name) const {
    std::ifstream in(path / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

state_type zeros(index heads = 2, index key_dim = 3, index value_dim = 4) { return {array<float, 4>({1, heads, key_dim, value_dim}), {}}; }
std::map<index, state_type> model() { return {{0, zeros()}, {2, zeros()}}; }
initial_states<state_type> tuned() {
  return {{{0, {test::normal<float, 4>({1, 2, 3, 4}, 1), {}}}, {2, {test::normal<float, 4>({1, 2, 3, 4}, 2), {}}}}, {.factor = 0.07, .normalise = true}};
}

TEST_CASE("the three files come back as they were, Mamba-2's matrices transposed on the way") {
  const folder f;
  const auto kind = GENERATE(published_kind::gated_delta_net, published_kind::mamba2);
  const auto set = tuned();
  published_config config{.tuning = {.steps = 7, .rate = 2e-3, .l2 = 0, .clip = 0.5}, .max_length = 99}, read;
  save_published(f.path, set, kind, config);
  const auto back = load_published(f.path, kind, model(), &read);
  REQUIRE(back.raw.size() == 2);
  for (const index layer : {0, 2}) CHECK(test::largest_difference(back.raw.at(layer).matrix, set.raw.at(layer).matrix) == 0.0);
  CHECK(back.scale.factor == 0.07);
  CHECK(back.scale.normalise);
  CHECK(back.scale.where == scale_at::deploy_only);
  CHECK(read.tuning.steps == 7);
  CHECK(read.tuning.rate == 2e-3);
  CHECK(read.tuning.l2 == 0.0);
  CHECK(read.tuning.clip == 0.5);
  CHECK(read.max_length == 99);
  const tensor_file file = tensor_file::read(f.path / "states.safetensors");
  const bool transposed = kind == published_kind::mamba2;
  CHECK(file.at("2").shape == (transposed ? std::vector<index>{2, 4, 3} : std::vector<index>{2, 3, 4}));
  const auto t = to_array<float, 3>(file.at("2"));
  CHECK((transposed ? t(1, 3, 2) : t(1, 2, 3)) == set.raw.at(2).matrix(0, 1, 2, 3));
}

TEST_CASE("the published program's own spelling is read") {
  const folder f;
  save_published(f.path, tuned(), published_kind::gated_delta_net);
  f.write("config.json", "{\n  \"n_steps\": 20,\n  \"lr\": 0.001,\n  \"l2_lambda\": 0.0005,\n  \"alpha\": null,\n  \"normalize\": false,\n  \"grad_clip\": 1.0,\n  \"max_length\": 2048\n}");
  f.write("meta.json", "{\n  \"arch\": \"gated_delta_net\",\n  \"recurrent_layers\": [\n    2,\n    0\n  ],\n  \"state_shape\": [\n    2,\n    3,\n    4\n  ]\n}\n");
  published_config config;
  CHECK(load_published(f.path, published_kind::gated_delta_net, model(), &config).scale.factor == 0.07);
  CHECK(config.tuning.l2 == 5e-4);
  f.write("meta.json", "{\"arch\": \"mamba2\", \"recurrent_layers\": [0, 2], \"state_shape\": [2, 4, 3]}");
  tensor_writer writer;
  for (const char* name : {"0", "2"}) writer.add(name, array<float, 3>({2, 4, 3}));
  writer.write(f.path / "states.safetensors");
  CHECK(load_published(f.path, published_kind::mamba2, model()).scale.factor == 0.65);
}

TEST_CASE("tuned states of another model, type or head count are refused by name") {
  const folder f;
  const auto kind = published_kind::gated_delta_net;
  save_published(f.path, tuned(), kind);
  const auto load = [&](std::map<index, state_type> m = model(), published_kind k = published_kind::gated_delta_net) { return load_published(f.path, k, std::move(m)); };
  CHECK_NOTHROW(load());
  CHECK_THROWS_WITH(load(model(), published_kind::mamba2), Contains("meta.json: arch: expected states for mamba2, got \"gated_delta_net\""));
  CHECK_THROWS_WITH(load({{0, zeros()}}), Contains("recurrent_layers: expected those of this model, [0], got [0, 2]"));
  CHECK_THROWS_WITH(load({{0, zeros(3)}, {2, zeros(3)}}), Contains("state_shape: expected [3, 3, 4] (heads first), got [2, 3, 4]"));
  const std::string meta = f.read("meta.json"), config = f.read("config.json");

  const auto states = [&](const char* second, auto numbers) {
    tensor_writer writer;
    writer.add("0", array<float, 3>({2, 3, 4}));
    writer.add(second, numbers);
    writer.write(f.path / "states.safetensors");
  };
  states("2", array<double, 3>({2, 3, 4}));
  CHECK_THROWS_WITH(load(), Contains("states.safetensors: tensor \"2\": expected F32, got F64"));
  states("2", array<float, 3>({3, 3, 4}));
  CHECK_THROWS_WITH(load(), Contains("tensor \"2\": expected [2, 3, 4] (heads first), got [3, 3, 4]"));
  states("1", array<float, 3>({2, 3, 4}));
  CHECK_THROWS_WITH(load(), Contains("\"2\": expected in") && Contains("states.safetensors"));
  array<float, 3> bad({2, 3, 4});
  bad(1, 1, 1) = std::numeric_limits<float>::quiet_NaN();
  states("2", bad);
  CHECK_THROWS_WITH(load(), Contains("tensor \"2\": expected finite numbers"));
  states("2", array<float, 3>({2, 3, 4}));
  CHECK_NOTHROW(load());

  const auto with_meta = [&](const std::string& text, const char* message) {
    f.write("meta.json", text);
    CHECK_THROWS_WITH(load(), Contains("meta.json") && Contains(message));
  };
  with_meta("", "expected an object");
  with_meta("[1]", "expected an object");
  with_meta(std::string(100000, '['), "expected an object");
  with_meta("{\"arch\": 3}", "expected a string");
  with_meta("{\"arch\": \"gated_delta_net\"}", "\"recurrent_layers\" is missing");
  with_meta("{\"arch\": \"gated_delta_net\", \"arch\": \"mamba2\"}", "is given twice");
  with_meta("{\"weights\": \"x\"}", "the key \"weights\" is not known");
  with_meta("{\"recurrent_layers\": [0, -2]}", "expected a non-negative integer");
  with_meta(meta + "x", "to the end");
  with_meta("{\"arch\": \"\xff\"}", "expected UTF-8");
  f.write("meta.json", meta);
  const auto with_config = [&](const std::string& from, const std::string& to, const char* message) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    f.write("config.json", text);
    CHECK_THROWS_WITH(load(), Contains("config.json") && Contains(message));
  };
  with_config("0.07", "1e999", "expected a number");
  with_config("0.07", "true", "expected a number");
  with_config("true", "1", "expected true or false");
  with_config("\"lr\"", "\"rate\"", "the key \"rate\" is not known");
  std::filesystem::remove(f.path / "config.json");
  CHECK_THROWS_WITH(load(), Contains("config.json: expected a file that can be read"));
}

TEST_CASE("what has no published form is not written") {
  const folder f;
  CHECK_THROWS_WITH(save_published(f.path, initial_states<state_type>{}, published_kind::mamba2), Contains("expected tuned states to write"));
  auto set = tuned();
  set.raw.at(2) = zeros(3);
  CHECK_THROWS_WITH(save_published(f.path, set, published_kind::gated_delta_net), Contains("layer 2: expected a state of [2, 3, 4]"));
  const initial_states<key_value_cache<float>> keys{{{1, {array<float, 4>({1, 2, 3, 4}), array<float, 4>({1, 2, 3, 4}), array<std::int64_t, 1>({1})}}}, {}};
  CHECK_THROWS_WITH(save_published(f.path, keys, published_kind::gated_delta_net), Contains("layer 1: expected a state with one matrix a head, got keys and values"));
}

}  // namespace
