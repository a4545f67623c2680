// The layers of the example files, as the tests of layers use them.
#pragma once
#include <filesystem>
#include <set>
#include <vector>

#include "support/layer_file.hpp"
#include "support/layers.hpp"

namespace test {

inline const std::filesystem::path layer_folder = std::filesystem::path(WEFT_EXAMPLE_DATA) / "layers";

inline std::vector<std::filesystem::path> layer_files() {
  std::set<std::filesystem::path> sorted;
  for (const auto& e : std::filesystem::directory_iterator(layer_folder))
    if (e.path().extension() == ".safetensors") sorted.insert(e.path());
  return {sorted.begin(), sorted.end()};
}

// A layer of a file with its prompt.
struct loaded_layer {
  weft::tensor_file file;
  weft::any_layer<float> layer;
  weft::array<float, 3> x;

  explicit loaded_layer(const std::filesystem::path& path) : file(weft::tensor_file::read(path)) {
    const auto settings = [&](const char* name) { return configuration::settings_of(configuration::parse(layer_file::metadata(file, name), name), name); };
    const auto module = settings("module");
    layer = layers::known<float>().make(layer_file::metadata(file, "class"), weft::parameters<float>(file), settings("config"),
                                        module.has("layer_idx") ? module.integer("layer_idx", 0) : 0);
    x = weft::to_array<float, 3>(file.at("input"));
  }
  weft::any_state state(weft::index batch) const { return layer.state({.batch = batch, .capacity = x.extent(1) + 3}); }
};

}  // namespace test
