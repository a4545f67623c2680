#include "attributes.hpp"

#include <weft/core/error.hpp>
#include <weft/io/text.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace ops {
namespace {

using weft::errc;
using weft::fail;
using weft::require;

const char* kind(const attributes::value& v) {
  constexpr const char* names[] = {"a boolean", "an integer", "a number", "a string"};
  return names[v.index()];
}

// Nesting deeper than this cannot be flat; the parser would recurse.
bool nested(std::string_view json) {
  bool quoted = false;
  int depth = 0;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (quoted && json[i] == '\\') ++i;
    else if (json[i] == '"') quoted = !quoted;
    else if (!quoted && (json[i] == '{' || json[i] == '[') && ++depth > 1) return true;
  }
  return false;
}

}  // namespace

attributes attributes::parse(std::string_view json, std::string_view where) {
  require(!nested(json), errc::value, where, ": expected a flat JSON object, got a nested one");
  attributes out;
  nlohmann::json object;
  std::set<std::string> names;
  std::string twice;  // the parser keeps the last of equal names
  const auto once = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& name) {
    if (event == nlohmann::json::parse_event_t::key && !names.insert(name.get<std::string>()).second) twice = name.get<std::string>();
    return true;
  };
  try {
    object = nlohmann::json::parse(json, once);
  } catch (const nlohmann::json::parse_error& e) {
    const std::size_t at = e.byte > 0 ? e.byte - 1 : 0;
    require(at < json.size(), errc::value, where, ": expected a JSON object, got text that ends before it does");
    fail(errc::value, where, ": expected a JSON object, got text that is no JSON at byte ", at + 1, ", ", weft::io::quoted(json.substr(at, 20)));
  } catch (const nlohmann::json::exception&) {
    fail(errc::value, where, ": expected a JSON object, got a number that no double holds");
  }
  require(object.is_object(), errc::value, where, ": expected a JSON object, got ", object.type_name());
  require(twice.empty(), errc::value, where, ": expected each name once, got ", weft::io::quoted(twice), " twice");
  for (const auto& [name, v] : object.items()) {
    if (v.is_boolean()) out.values_[name] = v.get<bool>();
    else if (v.is_number_integer() && !(v.is_number_unsigned() && v.get<std::uint64_t>() > INT64_MAX)) out.values_[name] = v.get<std::int64_t>();
    else if (v.is_number()) out.values_[name] = v.get<double>();
    else if (v.is_string()) out.values_[name] = v.get<std::string>();
    else fail(errc::value, where, ": expected a number, string or boolean for ", weft::io::quoted(name), ", got ", v.type_name());
  }
  return out;
}

void attributes::merge(const attributes& over) {
  for (const auto& [name, v] : over.values_) values_.insert_or_assign(name, v);
}

const attributes::value* attributes::find(std::string_view name) const {
  const auto at = values_.find(name);
  return at == values_.end() ? nullptr : &at->second;
}

bool attributes::flag(std::string_view name, bool otherwise) const {
  const value* v = find(name);
  if (!v) return otherwise;
  const bool* b = std::get_if<bool>(v);
  require(b != nullptr, errc::value, name, ": expected true or false, got ", kind(*v));
  return *b;
}

std::optional<double> attributes::number(std::string_view name) const {
  const value* v = find(name);
  if (!v) return std::nullopt;
  double x = 0;
  if (const auto* i = std::get_if<std::int64_t>(v)) x = static_cast<double>(*i);
  else if (const auto* d = std::get_if<double>(v)) x = *d;
  else fail(errc::value, name, ": expected a number, got ", kind(*v));
  require(std::abs(x) <= std::numeric_limits<float>::max(), errc::value, name, ": expected a number that a float holds, got ", x);
  return x;
}

double attributes::at_least(std::string_view name, double least, double otherwise) const {
  const std::optional<double> x = number(name);
  require(!x || *x >= least, errc::value, name, ": expected at least ", least, ", got ", x.value_or(0));
  return x.value_or(otherwise);
}

std::int64_t attributes::integer(std::string_view name, std::int64_t least, std::int64_t otherwise) const {
  const value* v = find(name);
  if (!v) return otherwise;
  constexpr std::int64_t most = INT32_MAX;
  const auto* i = std::get_if<std::int64_t>(v);
  if (const auto* d = std::get_if<double>(v)) fail(errc::value, name, ": expected an integer from ", least, " to ", most, ", got ", *d);
  if (!i) fail(errc::value, name, ": expected an integer, got ", kind(*v));
  require(*i >= least && *i <= most, errc::value, name, ": expected an integer from ", least, " to ", most, ", got ", *i);
  return *i;
}

std::size_t attributes::choice(std::string_view name, std::initializer_list<std::string_view> words, std::size_t otherwise) const {
  const value* v = find(name);
  if (!v) return otherwise;
  std::string list;
  for (const auto w : words) list += (list.empty() ? "" : ", ") + std::string(w);
  const auto* s = std::get_if<std::string>(v);
  if (!s) fail(errc::value, name, ": expected one of ", list, ", got ", kind(*v));
  const auto at = std::find(words.begin(), words.end(), *s);
  require(at != words.end(), errc::value, name, ": expected one of ", list, ", got ", weft::io::quoted(*s));
  return static_cast<std::size_t>(at - words.begin());
}

void attributes::refuse_unknown(std::string_view op, std::span<const std::string_view> known) const {
  for (const auto& [name, v] : values_) {
    if (name == "selection_gap" || name == "exact_ties" || std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string list;
    for (const auto k : known) list += (list.empty() ? "" : ", ") + std::string(k);
    fail(errc::value, weft::io::quoted(name), ": expected an attribute of ", op, " (", list, "), got one that it lacks");
  }
}

}  // namespace ops
