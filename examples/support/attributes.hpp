// The options of an operator: a flat JSON object of numbers, strings and booleans.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace ops {

class attributes {
 public:
  using value = std::variant<bool, std::int64_t, double, std::string>;

  // Throws weft::error (errc::value) for text that is no flat JSON object; `where` names its origin in the message.
  static attributes parse(std::string_view json, std::string_view where);

  // The entries of `over` added to these, winning over equal names.
  void merge(const attributes& over);

  // Getters throw errc::value naming the attribute where its type or its range is wrong.
  bool flag(std::string_view name, bool otherwise) const;
  std::optional<double> number(std::string_view name) const;  // finite
  double number(std::string_view name, double otherwise) const { return number(name).value_or(otherwise); }
  double at_least(std::string_view name, double least, double otherwise) const;
  std::int64_t integer(std::string_view name, std::int64_t least, std::int64_t otherwise) const;
  // The position of the attribute among the words allowed.
  std::size_t choice(std::string_view name, std::initializer_list<std::string_view> words, std::size_t otherwise) const;

  // Throws for a name that the operator lacks. Two names only describe a golden case and pass.
  void refuse_unknown(std::string_view op, std::span<const std::string_view> known) const;

 private:
  const value* find(std::string_view name) const;

  std::map<std::string, value, std::less<>> values_;
};

}  // namespace ops
