// A model's configuration as layers read it: flat names with dots ("rope_parameters.rope_theta", "layer_types.0") and the
// kinds of value that configurations have. Filled from whatever format the user keeps them in.
#pragma once
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
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
  double number(const std::string& name) const { return number_of(name, "a finite number", [](double x) { return std::isfinite(x); }); }
  double positive(const std::string& name) const {
    return number_of(name, "a positive, finite number", [](double x) { return x > 0 && std::isfinite(x); });
  }
  double not_negative(const std::string& name) const {
    return number_of(name, "0 or a positive, finite number", [](double x) { return x >= 0 && std::isfinite(x); });
  }
  // At least `low`; infinity too.
  double at_least(const std::string& name, double low) const {
    return number_of(name, "at least " + spelled(low), [&](double x) { return x >= low; });
  }
  bool flag(const std::string& name) const { return get<bool>(name, "true or false"); }
  const std::string& text(const std::string& name) const { return get<std::string>(name, "a text"); }
  // A whole number from `least` to 2^24: products of two do not overflow.
  index integer(const std::string& name, index least) const {
    return static_cast<index>(number_of(name, "a whole number from " + std::to_string(least) + " to 2^24",
                                        [&](double x) { return x >= static_cast<double>(least) && x <= 0x1p24 && x == std::floor(x); }));
  }
  index count(const std::string& name) const { return integer(name, 1); }
  // One of these texts.
  const std::string& one_of(const std::string& name, std::initializer_list<std::string_view> known) const {
    const std::string& got = text(name);
    std::string all;
    for (const std::string_view k : known) {
      if (got == k) return got;
      all += (all.empty() ? "" : " or ") + std::string(k);
    }
    refuse(name, all, got);
  }
  // Where there is such a name.
  void expect(const std::string& name, std::initializer_list<std::string_view> known) const {
    if (has(name)) one_of(name, known);
  }
  // Nothing where the name is absent.
  std::optional<double> optional_number(const std::string& name) const { return has(name) ? std::optional(number(name)) : std::nullopt; }
  bool flag_or(const std::string& name, bool otherwise) const { return has(name) ? flag(name) : otherwise; }

 private:
  [[noreturn]] void refuse(const std::string& name, const std::string& expected, const std::string& got) const {
    throw error(errc::value, "weft: " + source_ + ": " + name + ": expected " + expected + ", got " + got);
  }
  static std::string spelled(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", x);
    return text;
  }
  template <class F>
  double number_of(const std::string& name, const std::string& expected, F&& holds) const {
    const double x = get<double>(name, "a number");
    if (!holds(x)) refuse(name, expected, spelled(x));
    return x;
  }
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
