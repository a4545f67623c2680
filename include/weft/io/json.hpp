// A strict reader of JSON headers. It pulls what its user expects next, so what it accepts has the depth of that user's
// code: nothing here recurses over the text, and a hundred thousand brackets are one error at the first.
#pragma once
#include <charconv>
#include <limits>
#include <string>
#include <string_view>

#include "../core/error.hpp"
#include "../core/view.hpp"
#include "text.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace io {

class json_reader {
 public:
  // The text must be UTF-8. `source` names it in messages; both outlive the reader.
  json_reader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  // member(key) for every member of an object; it reads the value. Sees duplicates: telling them apart is its business.
  template <class F>
  void object(F&& member) {
    list('{', '}', "an object", [&] {
      const std::string key = string();
      take(':', "':' after a key");
      member(key);
    });
  }

  // element() for every element of an array; it reads the element.
  template <class F>
  void array(F&& element) {
    list('[', ']', "an array", element);
  }

  std::string string() {
    take('"', "a string");
    std::string s;
    for (;;) {
      if (at_ == text_.size()) wrong("the end of a string");
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) wrong("no control character in a string");
      ++at_;
      if (c == '"') return s;
      if (c == '\\') append_code_point(s, escape());
      else s += c;
    }
  }

  // Digits alone: no sign, no fraction, no exponent, no leading zero.
  index integer() {
    skip_spaces();
    const std::size_t first = at_;
    index n = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const index digit = text_[at_] - '0';
      if (n > (std::numeric_limits<index>::max() - digit) / 10) wrong("an integer below 2^63");
      n = n * 10 + digit;
    }
    if (at_ == first) wrong("a non-negative integer");
    if (at_ > first + 1 && text_[first] == '0') wrong("an integer without leading zeros");
    if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E')) wrong("an integer");
    return n;
  }

  // A number as JSON spells it: without a + before it, a leading zero or a bare point. One that no double holds, too large or so
  // small that it would be 0, is refused.
  double number() {
    skip_spaces();
    const std::size_t first = at_;
    take_if('-');
    if (!take_if('0')) digits();
    if (take_if('.')) digits();
    if (take_if('e') || take_if('E')) {
      static_cast<void>(take_if('+') || take_if('-'));
      digits();
    }
    double x = 0;
    if (std::from_chars(text_.data() + first, text_.data() + at_, x).ec != std::errc()) {
      at_ = first;
      wrong("a number that a double holds");
    }
    return x;
  }
  // true or false.
  bool boolean() {
    if (word("true")) return true;
    if (!word("false")) wrong("true or false");
    return false;
  }
  // Reads null where it comes next.
  bool null() { return word("null"); }

  // Nothing but spaces to the end.
  void end() {
    for (; at_ < text_.size(); ++at_)
      if (text_[at_] != ' ') wrong("spaces to the end of the header");
  }

  [[noreturn]] void wrong(std::string_view expected) const {
    fail(errc::file, source_, ": header: expected ", expected, at_ < text_.size() ? ", got " + io::quoted(text_.substr(at_, 1)) : ", got its end",
         " at byte ", at_);
  }

 private:
  template <class F>
  void list(char open, char close, std::string_view what, F&& item) {
    take(open, what);
    if (skip_if(close)) return;
    do item();
    while (skip_if(','));
    take(close, close == '}' ? "',' or '}'" : "',' or ']'");
  }

  bool word(std::string_view w) {
    skip_spaces();
    if (!text_.substr(at_).starts_with(w)) return false;
    at_ += w.size();
    return true;
  }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  bool take_if(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool skip_if(char c) {
    skip_spaces();
    return take_if(c);
  }
  // At least one.
  void digits() {
    const std::size_t first = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    if (at_ == first) wrong("a number");
  }
  void take(char c, std::string_view what) {
    if (!skip_if(c)) wrong(what);
  }

  char32_t escape() {
    if (at_ == text_.size()) wrong("the end of an escape");
    switch (text_[at_++]) {
      case '"': return '"';
      case '\\': return '\\';
      case '/': return '/';
      case 'b': return '\b';
      case 'f': return '\f';
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'u': break;
      default: --at_; wrong("an escape of JSON");
    }
    const char32_t c = four_digits();
    if (c < 0xd800 || c > 0xdfff) return c;
    if (c > 0xdbff || text_.substr(at_, 2) != "\\u") wrong("a pair of surrogates");
    at_ += 2;
    const char32_t low = four_digits();
    if (low < 0xdc00 || low > 0xdfff) wrong("a pair of surrogates");
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
  }
  char32_t four_digits() {
    char32_t c = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char d = at_ < text_.size() ? text_[at_] : '\0';
      if (d >= '0' && d <= '9') c = c * 16 + static_cast<char32_t>(d - '0');
      else if (d >= 'a' && d <= 'f') c = c * 16 + static_cast<char32_t>(d - 'a' + 10);
      else if (d >= 'A' && d <= 'F') c = c * 16 + static_cast<char32_t>(d - 'A' + 10);
      else wrong("four hexadecimal digits");
    }
    return c;
  }

  std::string_view text_, source_;
  std::size_t at_ = 0;
};

}  // namespace io
}  // namespace WEFT_ISA
}  // namespace weft
