// A model's configuration as layers read it: flat names with dots ("rope_parameters.rope_theta", "layer_types.0") and the
// kinds of value that configurations have. Filled from whatever format the user keeps them in.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "../core/error.hpp"
#include "../core/view.hpp"

namespace weft {
inline namespace v1 {

class settings {
 public:
  using value = std::variant<double, bool, std::string>;

  // `source` stands for the configuration in messages.
  explicit settings(std::string source = "config") : source_(std::move(source)) {}

  void set(std::string name, value v) { values_.insert_or_assign(std::move(name), std::move(v)); }
  bool has(const std::string& name) const { return values_.contains(name); }

  // Throw errc::missing where there is no such name, errc::value where it is of another kind or out of range.
  double number(const std::string& name) const { return get<double>(name, "a number"); }
  bool flag(const std::string& name) const { return get<bool>(name, "true or false"); }
  const std::string& text(const std::string& name) const { return get<std::string>(name, "a text"); }
  // A whole number from `least` to 2^24: products of two do not overflow.
  index integer(const std::string& name, index least) const {
    const double x = number(name);
    if (!(x >= static_cast<double>(least) && x <= 0x1p24) || x != static_cast<double>(static_cast<index>(x)))
      throw error(errc::value, "weft: " + source_ + ": " + name + ": expected a whole number from " + std::to_string(least) + " to 2^24, got " + std::to_string(x));
    return static_cast<index>(x);
  }
  index count(const std::string& name) const { return integer(name, 1); }
  // Nothing where the name is absent.
  std::optional<double> optional_number(const std::string& name) const { return has(name) ? std::optional(number(name)) : std::nullopt; }
  bool flag_or(const std::string& name, bool otherwise) const { return has(name) ? flag(name) : otherwise; }

 private:
  template <class T>
  const T& get(const std::string& name, const char* kind) const {
    const auto at = values_.find(name);
    if (at == values_.end()) throw error(errc::missing, "weft: " + source_ + ": " + name + ": expected " + kind + ", got nothing");
    if (const T* v = std::get_if<T>(&at->second)) return *v;
    throw error(errc::value, "weft: " + source_ + ": " + name + ": expected " + kind + ", got another kind of value");
  }

  std::string source_;
  std::map<std::string, value> values_;
};

}  // namespace v1
}  // namespace weft
