// Reads safetensors files, strictly: a file is hostile until proved otherwise.
//
//   u64 length of the header | JSON header | data
//   header: {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//
// The tensors cover the data exactly: in the order of their offsets each starts where the one before ends.
#pragma once
#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "json.hpp"
#include "tensor.hpp"

namespace weft {
inline namespace v1 {

static_assert(std::endian::native == std::endian::little, "weft: safetensors files are little-endian");

namespace detail {
struct tensor_contents {
  std::string name;
  std::map<std::string, std::string> metadata;
  std::vector<tensor> tensors;  // in the order of their names
  aligned_bytes data;
};
}  // namespace detail

// A whole file in memory. Its tensors point into it: it outlives what is read from them. Movable.
class tensor_file {
 public:
  // Throws errc::file, naming the file, the tensor and the rule, for whatever the format does not allow; the data is
  // read only when the header has proved right. Holds the data and the header's entries; peaks at about twice the file's size.
  static tensor_file read(const std::filesystem::path& path);
  // The same for bytes in memory, which are copied; `name` stands for the file in messages.
  static tensor_file parse(std::span<const std::byte> bytes, std::string_view name);

  WEFT_INLINE const std::string& name() const { return contents_.name; }
  WEFT_INLINE const std::map<std::string, std::string>& metadata() const { return contents_.metadata; }
  WEFT_INLINE const std::vector<tensor>& tensors() const { return contents_.tensors; }
  // Null where there is none.
  WEFT_INLINE const tensor* find(std::string_view name) const {
    const auto& all = contents_.tensors;
    const auto at = std::lower_bound(all.begin(), all.end(), name, [](const tensor& t, std::string_view n) { return t.name < n; });
    return at != all.end() && at->name == name ? &*at : nullptr;
  }
  // Throws errc::missing, naming the tensor and the file.
  WEFT_INLINE const tensor& at(std::string_view name) const {
    const tensor* t = find(name);
    require(t != nullptr, errc::missing, "tensor ", io::quoted(name), ": expected in ", contents_.name, ", which lacks it");
    return *t;
  }

 private:
  explicit tensor_file(detail::tensor_contents c) : contents_(std::move(c)) {}
  detail::tensor_contents contents_;
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace io {

// Limits far beyond any real file, so that a header of many tiny entries cannot claim much more memory than it has bytes.
inline constexpr index header_limit = 100'000'000, tensor_limit = 1'000'000;
inline constexpr std::size_t rank_limit = 32;

// Elements times bytes an element, or nothing beyond 2^63 - 1.
inline std::optional<index> checked_bytes(dtype type, const std::vector<index>& shape) {
  index n = dtype_bytes(type);
  for (const index e : shape)
    if (__builtin_mul_overflow(n, e, &n)) return std::nullopt;
  return n;
}

struct header_entry {
  weft::tensor tensor;
  index begin = 0, end = 0;
};

inline header_entry read_entry(json_reader& json, const std::string& name, std::string_view file) {
  const auto check = [&](bool holds, const auto&... parts) {
    if (!holds) fail(errc::file, file, ": tensor ", io::quoted(name), ": ", parts...);
  };
  check(!name.empty() && printable(name), "expected a name of printable characters");
  header_entry entry;
  entry.tensor.name = name;
  bool has_type = false, has_shape = false;
  std::vector<index> offsets;
  json.object([&](const std::string& key) {
    if (key == "dtype") {
      check(!has_type, "dtype is given twice");
      has_type = true;
      const std::string type = json.string();
      const auto at = std::find(dtype_names.begin(), dtype_names.end(), type);
      check(at != dtype_names.end(), "dtype ", io::quoted(type), " is not known");
      entry.tensor.type = static_cast<dtype>(at - dtype_names.begin());
    } else if (key == "shape") {
      check(!has_shape, "shape is given twice");
      has_shape = true;
      json.array([&] {
        check(entry.tensor.shape.size() < rank_limit, "shape: expected at most ", rank_limit, " dimensions");
        entry.tensor.shape.push_back(json.integer());
      });
    } else if (key == "data_offsets") {
      check(offsets.empty(), "data_offsets is given twice");
      json.array([&] {
        check(offsets.size() < 2, "data_offsets: expected two numbers, got more");
        offsets.push_back(json.integer());
      });
      check(offsets.size() == 2, "data_offsets: expected two numbers, got ", offsets.size());
    } else check(false, "expected dtype, shape and data_offsets, got ", io::quoted(key));
  });
  check(has_type, "dtype is missing");
  check(has_shape, "shape is missing");
  check(!offsets.empty(), "data_offsets is missing");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  check(entry.begin <= entry.end, "data_offsets: expected a begin up to the end, got ", check::list(offsets));
  const auto bytes = checked_bytes(entry.tensor.type, entry.tensor.shape);
  check(bytes.has_value(), "shape ", check::list(entry.tensor.shape), " exceeds the address space");
  check(entry.end - entry.begin == *bytes, "expected ", *bytes, " bytes for ", dtype_name(entry.tensor.type), " ",
        check::list(entry.tensor.shape), ", got data_offsets ", check::list(offsets));
  return entry;
}

inline void read_metadata(json_reader& json, std::map<std::string, std::string>& metadata, std::string_view file) {
  json.object([&](const std::string& key) {
    const bool fresh = metadata.emplace(key, json.string()).second;
    require(fresh, errc::file, file, ": metadata: the key ", io::quoted(key), " is given twice");
  });
}

// The tensors in the order of their data, `data_size` bytes.
inline std::vector<tensor> read_header(std::string_view text, index data_size, v1::detail::tensor_contents& contents) {
  const std::string& file = contents.name;
  const std::size_t bad = find_not_utf8(text);
  require(bad == text.npos, errc::file, file, ": header: expected UTF-8, got another byte at ", bad);
  require(text.starts_with('{'), errc::file, file, ": header: expected to start with '{'");

  json_reader json(text, file);
  std::vector<header_entry> entries;
  bool has_metadata = false;
  json.object([&](const std::string& key) {
    if (key == "__metadata__") {
      require(!has_metadata, errc::file, file, ": __metadata__ is given twice");
      has_metadata = true;
      return read_metadata(json, contents.metadata, file);
    }
    require(std::ssize(entries) < tensor_limit, errc::file, file, ": expected at most ", tensor_limit, " tensors");
    entries.push_back(read_entry(json, key, file));
  });
  json.end();

  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.tensor.name < b.tensor.name; });
  for (std::size_t i = 1; i < entries.size(); ++i)
    require(entries[i - 1].tensor.name != entries[i].tensor.name, errc::file, file, ": tensor ", io::quoted(entries[i].tensor.name),
            ": the name is given twice");
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  index at = 0;
  std::vector<tensor> tensors;
  tensors.reserve(entries.size());
  for (header_entry& e : entries) {
    require(e.end <= data_size, errc::file, file, ": tensor ", io::quoted(e.tensor.name), ": expected data within ", data_size,
            " bytes, got data_offsets [", e.begin, ", ", e.end, "]");
    require(e.begin >= at, errc::file, file, ": tensor ", io::quoted(e.tensor.name), ": expected data from byte ", at, ", got ", e.begin,
            ", inside another tensor");
    require(e.begin == at, errc::file, file, ": tensor ", io::quoted(e.tensor.name), ": expected data from byte ", at, ", got ", e.begin,
            " with a hole before it");
    at = e.end;
    tensors.push_back(std::move(e.tensor));
  }
  require(at == data_size, errc::file, file, ": expected the tensors to cover ", data_size, " bytes of data, got ", at);
  return tensors;
}

// take(to, n) moves the next n of the `size` bytes to `to`, or throws.
template <class Take>
v1::detail::tensor_contents load(std::string name, std::uintmax_t size, Take&& take) {
  v1::detail::tensor_contents contents{.name = std::move(name), .metadata = {}, .tensors = {}, .data = {}};
  const std::string& file = contents.name;
  std::uint64_t length = 0;
  require(size >= sizeof length, errc::file, file, ": expected 8 bytes of header length, got a file of ", size);
  take(&length, sizeof length);
  const std::uintmax_t rest = size - sizeof length;
  require(length <= static_cast<std::uint64_t>(header_limit), errc::file, file, ": header: expected at most ", header_limit, " bytes, got ", length);
  require(length <= rest, errc::file, file, ": header: expected ", length, " bytes, the file has ", rest);
  require(rest - length <= static_cast<std::uintmax_t>(std::numeric_limits<index>::max()), errc::file, file, ": too large");

  const auto data_size = static_cast<std::size_t>(rest - length);
  {
    std::string header(static_cast<std::size_t>(length), '\0');
    take(header.data(), header.size());
    contents.tensors = read_header(header, static_cast<index>(data_size), contents);
  }
  contents.data.reserve(std::max<std::size_t>(data_size, 1));
  take(contents.data.data(), data_size);

  const std::byte* at = contents.data.data();
  for (tensor& t : contents.tensors) {
    t.data = at;
    at += t.bytes();
  }
  std::sort(contents.tensors.begin(), contents.tensors.end(), [](const tensor& a, const tensor& b) { return a.name < b.name; });
  return contents;
}

inline v1::detail::tensor_contents load(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  require(std::filesystem::exists(status), errc::file, name, ": expected a file, found none");
  require(std::filesystem::is_regular_file(status), errc::file, name, ": expected a regular file");
  const auto size = std::filesystem::file_size(path, problem);
  std::ifstream in(path, std::ios::binary);
  require(!problem && in.is_open(), errc::file, name, ": cannot be opened for reading");
  return load(name, size, [&](void* to, std::size_t n) {
    in.read(static_cast<char*>(to), static_cast<std::streamsize>(n));
    require(static_cast<std::size_t>(in.gcount()) == n, errc::file, name, ": expected ", n, " more bytes, read ", in.gcount());
  });
}

inline v1::detail::tensor_contents load(std::span<const std::byte> bytes, std::string_view name) {
  return load(std::string(name), bytes.size(), [&](void* to, std::size_t n) {
    if (n > 0) std::memcpy(to, bytes.data(), n);
    bytes = bytes.subspan(n);
  });
}

}  // namespace io
}  // namespace WEFT_ISA

inline namespace v1 {

WEFT_INLINE tensor_file tensor_file::read(const std::filesystem::path& path) { return tensor_file(io::load(path)); }
WEFT_INLINE tensor_file tensor_file::parse(std::span<const std::byte> bytes, std::string_view name) {
  return tensor_file(io::load(bytes, name));
}

}  // namespace v1
}  // namespace weft
