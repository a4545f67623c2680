// Tuned initial states in the form in which the method was published, a folder of three files:
//
//   states.safetensors   one F32 tensor a tuned layer, raw, named by the layer's number
//   config.json          {"n_steps", "lr", "l2_lambda", "alpha" (null: by kind), "normalize", "grad_clip", "max_length"}
//   meta.json            {"arch": "gated_delta_net" or "mamba2", "recurrent_layers": [...], "state_shape": [heads, rows, columns]}
//
// Rows and columns are key and value channels of delta rules, head and state channels of Mamba-2: the transpose of weft's state.
#pragma once
#include <array>
#include <charconv>
#include <fstream>
#include <iterator>

#include "initial_states.hpp"
#include "tuning.hpp"

namespace weft {
inline namespace v1 {

enum class published_kind { gated_delta_net, mamba2 };

inline constexpr std::array<std::string_view, 2> published_names{"gated_delta_net", "mamba2"};

struct published_config {
  tuning_options tuning{};
  state_scale scale{};
  index max_length = 2048;  // tokens of a training item
};

// The factor of a kind where its configuration says null.
constexpr double default_factor(published_kind kind) { return kind == published_kind::mamba2 ? 0.65 : 0.07; }

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// The part of a state that the method tunes: its one tensor of four dimensions, [1, heads, key_dim, value_dim].
template <class S>
tensor matrix_of(const S& s, index layer) {
  std::optional<tensor> matrix;
  for (const tensor& t : parts_of(s))
    if (t.shape.size() == 4) {
      require(!matrix, errc::unsupported, "layer ", layer, ": expected a state with one matrix a head, got ", matrix->name, " and ", t.name);
      matrix = t;
    }
  require(matrix.has_value(), errc::unsupported, "layer ", layer, ": expected a state with one matrix a head, got none");
  require(matrix->shape[0] == 1, errc::shape, "layer ", layer, ": ", matrix->name, ": expected the state of one sequence, got ", check::list(matrix->shape));
  require(is_real_type(matrix->type), errc::unsupported, "layer ", layer, ": ", matrix->name, ": expected float or double, got ", dtype_name(matrix->type));
  return *matrix;
}
inline std::array<index, 3> published_shape(const tensor& matrix, published_kind kind) {
  const auto& e = matrix.shape;
  return kind == published_kind::mamba2 ? std::array{e[1], e[3], e[2]} : std::array{e[1], e[2], e[3]};
}

// f(number of the state, its place in the published tensor) for every number of a matrix.
template <class F>
void for_each_published(const tensor& matrix, published_kind kind, F&& f) {
  const auto with = [&]<class R>(std::span<R> numbers) {
    const index heads = matrix.shape[1], rows = matrix.shape[2], columns = matrix.shape[3];
    for (index h = 0; h < heads; ++h)
      for (index r = 0; r < rows; ++r)
        for (index c = 0; c < columns; ++c)
          f(numbers[static_cast<std::size_t>((h * rows + r) * columns + c)], kind == published_kind::mamba2 ? (h * columns + c) * rows + r : (h * rows + r) * columns + c);
  };
  if (matrix.type == dtype::f32) with(numbers_of<float>(matrix));
  else with(numbers_of<double>(matrix));
}

inline std::string json_number(double x) {
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), x).ptr;
  return {text.data(), end};
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  io::atomic_file file(path);
  file.write(text.data(), text.size());
  file.commit();
}
// A small text file, UTF-8, without the white space at its end. Throws errc::file.
inline std::string read_small_text(const std::filesystem::path& path) {
  constexpr std::size_t most = 1 << 20;
  std::error_code none;
  std::ifstream in(path, std::ios::binary);
  require(in.is_open() && std::filesystem::is_regular_file(path, none), errc::file, path.string(), ": expected a file that can be read");
  std::string text(most + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  require(text.size() <= most, errc::file, path.string(), ": expected at most ", most, " bytes");
  require(io::find_not_utf8(text) == text.npos, errc::file, path.string(), ": expected UTF-8");
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

// Each of `names` exactly once: read(name) reads its value.
template <class F>
void read_members(const std::filesystem::path& path, std::span<const std::string_view> names, F&& read) {
  const std::string text = read_small_text(path), source = path.string();
  io::json_reader json(text, source);
  std::vector<bool> seen(names.size());
  json.object([&](const std::string& key) {
    const auto at = static_cast<std::size_t>(std::find(names.begin(), names.end(), key) - names.begin());
    require(at < names.size(), errc::file, source, ": the key ", io::quoted(key), " is not known");
    require(!seen[at], errc::file, source, ": the key ", io::quoted(key), " is given twice");
    seen[at] = true;
    read(key, json);
  });
  json.end();
  for (std::size_t i = 0; i < names.size(); ++i) require(seen[i], errc::file, source, ": the key ", io::quoted(names[i]), " is missing");
}

inline published_config read_published_config(const std::filesystem::path& path, published_kind kind) {
  constexpr std::array<std::string_view, 7> names{"n_steps", "lr", "l2_lambda", "alpha", "normalize", "grad_clip", "max_length"};
  published_config c;
  read_members(path, names, [&](const std::string& key, io::json_reader& json) {
    if (key == "n_steps") c.tuning.steps = json.integer();
    else if (key == "lr") c.tuning.rate = json.number();
    else if (key == "l2_lambda") c.tuning.l2 = json.number();
    else if (key == "alpha") c.scale.factor = json.null() ? default_factor(kind) : json.number();
    else if (key == "normalize") c.scale.normalise = json.boolean();
    else if (key == "grad_clip") c.tuning.clip = json.number();
    else c.max_length = json.integer();
  });
  return c;
}

struct published_meta {
  std::string arch;
  std::vector<index> layers, shape;
};
inline published_meta read_published_meta(const std::filesystem::path& path) {
  constexpr std::array<std::string_view, 3> names{"arch", "recurrent_layers", "state_shape"};
  published_meta m;
  read_members(path, names, [&](const std::string& key, io::json_reader& json) {
    if (key == "arch") m.arch = json.string();
    else json.array([&] { (key == "recurrent_layers" ? m.layers : m.shape).push_back(json.integer()); });
  });
  std::sort(m.layers.begin(), m.layers.end());
  return m;
}

}  // namespace detail

// Writes the raw numbers of every tuned layer, as floats; each file is replaced whole or not at all, the states last. Throws
// errc::shape where the layers' states differ in extents, errc::unsupported for a state without one matrix a head, errc::file.
template <class S>
void save_published(const std::filesystem::path& folder, const initial_states<S>& set, published_kind kind, const published_config& config = {}) {
  require(!set.raw.empty(), errc::missing, folder.string(), ": expected tuned states to write, got none");
  const auto shape = detail::published_shape(detail::matrix_of(set.raw.begin()->second, set.raw.begin()->first), kind);
  tensor_writer writer;
  std::string layers;
  for (const auto& [layer, raw] : set.raw) {
    const tensor matrix = detail::matrix_of(raw, layer);
    require(detail::published_shape(matrix, kind) == shape, errc::shape, folder.string(), ": layer ", layer, ": expected a state of ", check::list(shape), " as the first layer's, got ",
            check::list(detail::published_shape(matrix, kind)));
    array<float, 3> numbers(shape);
    detail::for_each_published(matrix, kind, [&](auto x, index at) { numbers.data()[at] = static_cast<float>(x); });
    writer.add(std::to_string(layer), numbers);
    layers += (layers.empty() ? "" : ", ") + std::to_string(layer);
  }
  const auto& t = config.tuning;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  require(!failed, errc::file, folder.string(), ": cannot be made: ", failed.message());
  detail::write_text(folder / "config.json", "{\n  \"n_steps\": " + std::to_string(t.steps) + ",\n  \"lr\": " + detail::json_number(t.rate) + ",\n  \"l2_lambda\": " + detail::json_number(t.l2) +
                                                 ",\n  \"alpha\": " + detail::json_number(set.scale.factor) + ",\n  \"normalize\": " + (set.scale.normalise ? "true" : "false") +
                                                 ",\n  \"grad_clip\": " + detail::json_number(t.clip) + ",\n  \"max_length\": " + std::to_string(config.max_length) + "\n}");
  detail::write_text(folder / "meta.json", "{\n  \"arch\": " + io::json_string(published_names[static_cast<std::size_t>(kind)]) + ",\n  \"recurrent_layers\": [" + layers +
                                               "],\n  \"state_shape\": [" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " + std::to_string(shape[2]) + "]\n}");
  writer.write(folder / "states.safetensors");
}

// The set for a model whose recurrent layers have these states of one sequence, all to be tuned; nothing else of them is read but
// kind and extents. Throws errc::unsupported for states of another kind of model or of another type, errc::shape for other
// extents (the head count among them), errc::value for other layers or numbers that are not finite, errc::missing and errc::file.
template <class S>
initial_states<S> load_published(const std::filesystem::path& folder, published_kind kind, std::map<index, S> zeros, published_config* config = nullptr) {
  const std::string meta_name = (folder / "meta.json").string();
  const auto meta = detail::read_published_meta(meta_name);
  const auto& name = published_names[static_cast<std::size_t>(kind)];
  require(meta.arch == name, errc::unsupported, meta_name, ": arch: expected states for ", name, ", got ", io::quoted(meta.arch));
  std::vector<index> layers;
  for (const auto& [layer, s] : zeros) layers.push_back(layer);
  require(meta.layers == layers, errc::value, meta_name, ": recurrent_layers: expected those of this model, ", check::list(layers), ", got ", check::list(meta.layers));
  const auto config_read = detail::read_published_config(folder / "config.json", kind);
  require(std::isfinite(config_read.scale.factor), errc::value, (folder / "config.json").string(), ": alpha: expected a finite number");

  const tensor_file file = tensor_file::read(folder / "states.safetensors");
  require(file.tensors().size() == zeros.size(), errc::value, file.name(), ": expected one tensor for each of ", zeros.size(), " layers, got ", file.tensors().size());
  for (auto& [layer, s] : zeros) {
    clear(s);
    const tensor matrix = detail::matrix_of(s, layer);
    const auto shape = detail::published_shape(matrix, kind);
    const std::vector<index> expected(shape.begin(), shape.end());
    require(meta.shape == expected, errc::shape, meta_name, ": state_shape: expected ", check::list(expected), " (heads first), got ", check::list(meta.shape));
    const tensor& t = file.at(std::to_string(layer));
    require(t.type == dtype::f32, errc::unsupported, file.name(), ": tensor ", io::quoted(t.name), ": expected F32, got ", dtype_name(t.type));
    require(t.shape == expected, errc::shape, file.name(), ": tensor ", io::quoted(t.name), ": expected ", check::list(expected), " (heads first), got ", check::list(t.shape));
    const auto numbers = to_array<float, 3>(t);
    detail::for_each_published(matrix, kind, [&](auto& x, index at) {
      require(std::isfinite(numbers.data()[at]), errc::value, file.name(), ": tensor ", io::quoted(t.name), ": expected finite numbers, got ", numbers.data()[at]);
      x = numbers.data()[at];
    });
  }
  if (config) *config = config_read;
  return {std::move(zeros), config_read.scale};
}

}  // namespace WEFT_ISA
}  // namespace weft
