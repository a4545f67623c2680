// Files made by hand, and a folder for them that goes away with the test.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "catch.hpp"
#include "weft/io/safetensors.hpp"

namespace files {

struct temporary_folder {
  std::filesystem::path path;
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code none;
    std::filesystem::remove_all(path, none);
  }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
  std::ptrdiff_t entries() const { return std::distance(std::filesystem::directory_iterator(path), {}); }
};

inline std::string length_bytes(std::uint64_t n) {
  std::string s(8, '\0');
  std::memcpy(s.data(), &n, 8);
  return s;
}
// A file with this header and so many bytes of data.
inline std::string with_header(const std::string& header, std::size_t data = 0) {
  return length_bytes(header.size()) + header + std::string(data, '\x01');
}

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spit(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline weft::tensor_file parse(const std::string& bytes, std::string_view name = "f.safetensors") {
  return weft::tensor_file::parse(std::as_bytes(std::span(bytes)), name);
}

// The code and text of the error that f() throws; an empty text where it throws none.
struct caught {
  weft::errc code{};
  std::string text;
};
template <class F>
caught error_of(F&& f) {
  try {
    f();
  } catch (const weft::error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

}  // namespace files
