// UTF-8 text of unknown origin: decoding, what may be a name, and how to show it in a message.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "../core/config.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace io {

inline constexpr char32_t not_utf8 = 0xffffffff;

// The code point that starts at `at`, which moves past it; not_utf8 where none does (overlong forms and surrogates included).
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) {
    ++at;
    return lead;
  }
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() - at < length) return not_utf8;
  char32_t c = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return not_utf8;
    c = c << 6 | (byte(at + i) & 0x3f);
  }
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return not_utf8;
  at += length;
  return c;
}

// Appends a code point as UTF-8.
inline void append_code_point(std::string& text, char32_t c) {
  const auto put = [&](char32_t bits) { text += static_cast<char>(static_cast<unsigned char>(bits)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) put(0xc0 | c >> 6);
  else {
    if (c < 0x10000) put(0xe0 | c >> 12);
    else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3f));
    }
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

// The first byte that is not part of UTF-8 text, or npos.
inline std::size_t find_not_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();)
    if (next_code_point(text, at) == not_utf8) return at;
  return std::string_view::npos;
}

// Control characters, line separators and marks that reverse the direction of text: none belongs in a name.
inline bool printable(char32_t c) {
  return c != not_utf8 && c >= 0x20 && !(c >= 0x7f && c < 0xa0) && !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069) &&
         c != 0xfeff;
}

inline bool printable(std::string_view text) {
  for (std::size_t at = 0; at < text.size();)
    if (!printable(next_code_point(text, at))) return false;
  return true;
}

// A name for a message: in quotes, cut to 64 bytes, whatever is not printable as hexadecimal bytes. Call it io::quoted: of a
// std::string, plain `quoted` means the one of the standard library.
inline std::string quoted(std::string_view name) {
  std::string text = "\"";
  std::size_t at = 0;
  while (at < name.size() && at < 64) {
    const std::size_t first = at;
    if (printable(next_code_point(name, at))) {
      text += name.substr(first, at - first);
      continue;
    }
    if (at == first) ++at;
    for (std::size_t i = first; i < at; ++i) {
      const auto b = static_cast<unsigned char>(name[i]);
      text += {'\\', 'x', "0123456789abcdef"[b >> 4], "0123456789abcdef"[b & 15]};
    }
  }
  return text + (at < name.size() ? "...\"" : "\"");
}

}  // namespace io
}  // namespace WEFT_ISA
}  // namespace weft
