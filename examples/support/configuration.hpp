// A model's configuration in JSON as the settings that layers read.
#pragma once
#include <weft/layer/settings.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace configuration {

namespace detail {

// Objects and arrays become names with dots; what JSON has no number for is {"__float__": "Infinity"}.
inline void flatten(const nlohmann::json& j, const std::string& name, weft::settings& out) {
  const auto below = [&](const std::string& key) { return name.empty() ? key : name + "." + key; };
  if (j.is_object() && j.size() == 1 && j.contains("__float__")) {
    const bool negative = j["__float__"] == "-Infinity";
    out.set(name, negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity());
  } else if (j.is_object()) {
    for (const auto& [key, value] : j.items()) flatten(value, below(key), out);
  } else if (j.is_array()) {
    for (std::size_t i = 0; i < j.size(); ++i) flatten(j[i], below(std::to_string(i)), out);
  } else if (j.is_boolean()) out.set(name, j.get<bool>());
  else if (j.is_number()) out.set(name, j.get<double>());
  else if (j.is_string()) out.set(name, j.get<std::string>());  // null: as if it were not there
}

}  // namespace detail

// A JSON object from text of unknown origin. Throws errc::file, naming `source`.
inline nlohmann::json parse(std::string_view text, const std::string& source) {
  // Nesting is bounded while parsing: the parser's own values are freed by recursion.
  constexpr int deepest = 64;
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > deepest) throw weft::error(weft::errc::file, "weft: nested too deeply");
    return true;
  };
  const auto expected = [&](const std::string& what) { return weft::error(weft::errc::file, "weft: " + source + ": expected " + what); };
  if (text.find_first_not_of(" \t\r\n") == text.npos) throw expected("a JSON object, got an empty text");
  nlohmann::json j;
  try {
    j = nlohmann::json::parse(text, shallow);
  } catch (const nlohmann::json::parse_error& e) {
    throw expected("JSON, got something else at byte " + std::to_string(e.byte));
  } catch (const nlohmann::json::out_of_range&) {
    throw expected("JSON whose numbers a double can hold, got a larger one");
  } catch (const std::exception&) {
    throw expected("JSON of at most 64 levels, got more");
  }
  if (!j.is_object()) throw expected("a JSON object, got " + std::string(j.type_name()));
  return j;
}

inline weft::settings settings_of(const nlohmann::json& j, const std::string& source) {
  weft::settings s(source);
  detail::flatten(j, "", s);
  return s;
}

// All of a file. Throws errc::file.
inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  weft::require(in.is_open() && std::filesystem::is_regular_file(path), weft::errc::file, path.string(), ": expected a file that can be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

inline weft::settings read_settings(const std::filesystem::path& path) { return settings_of(parse(read_text(path), path.string()), path.string()); }

}  // namespace configuration
