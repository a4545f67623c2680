// Writes safetensors files: the tensors are collected, then one file is replaced whole or not at all.
#pragma once
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "atomic_file.hpp"
#include "safetensors.hpp"

namespace weft {
inline namespace v1 {

// Copies what it is given, so that a state may change before the file is written.
class tensor_writer {
 public:
  // Row-major contiguous data of the given shape; an extent may be 0. Throws errc::value for a name that is empty, not printable or
  // taken, errc::shape for an extent below 0 or a product beyond the address space, errc::missing for null data with elements.
  void add(std::string name, dtype type, std::vector<index> shape, const void* data);
  // Any strides.
  template <class T, int R>
  void add(std::string name, const view<T, R>& v);
  template <class T, int R>
  void add(std::string name, const array<T, R>& a) {
    add(std::move(name), a.view());
  }
  // Replaces the value of a key that is there. Throws errc::value for what is not UTF-8.
  void metadata(std::string key, std::string value);
  // Throws errc::file and leaves the file that was there as it was; names of tensors and bytes are the same on every machine.
  void write(const std::filesystem::path& path) const;

 private:
  struct entry {
    dtype type;
    std::vector<index> shape;
    std::vector<std::byte> data;
  };
  std::map<std::string, entry> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace io {

// Room for a tensor's bytes; throws as tensor_writer::add does.
inline std::vector<std::byte> room_for(std::string_view name, bool taken, dtype type, const std::vector<index>& shape, bool null) {
  require(!name.empty() && printable(name) && name != "__metadata__", errc::value, "tensor ", io::quoted(name),
          ": expected a name of printable characters other than __metadata__");
  require(!taken, errc::value, "tensor ", io::quoted(name), ": the name is given twice");
  require(shape.size() <= rank_limit, errc::shape, "tensor ", io::quoted(name), ": expected at most ", rank_limit, " dimensions, got ",
          shape.size());
  for (const index e : shape) require(e >= 0, errc::shape, "tensor ", io::quoted(name), ": a negative extent in ", check::list(shape));
  const auto bytes = checked_bytes(type, shape);
  require(bytes.has_value(), errc::shape, "tensor ", io::quoted(name), ": shape ", check::list(shape), " exceeds the address space");
  require(*bytes == 0 || !null, errc::missing, "tensor ", io::quoted(name), ": expected ", check::list(shape), ", got no data");
  return std::vector<std::byte>(static_cast<std::size_t>(*bytes));
}

// The elements of a view, row-major and contiguous.
template <class T, int R>
void copy_elements(const view<T, R>& v, std::byte* to) {
  if (v.size() == 0) return;
  if constexpr (R == 0) std::memcpy(to, v.data, sizeof(T));
  else {
    view<T, R - 1> inner(nullptr, {});
    std::copy(v.extent.begin() + 1, v.extent.end(), inner.extent.begin());
    std::copy(v.stride.begin() + 1, v.stride.end(), inner.stride.begin());
    const auto n = static_cast<std::size_t>(v.extent[0]), bytes = static_cast<std::size_t>(inner.size()) * sizeof(T);
    if (v.stride == view<T, R>(v.data, v.extent).stride) {
      std::memcpy(to, static_cast<const void*>(v.data), n * bytes);
      return;
    }
    for (std::size_t i = 0; i < n; ++i) {
      inner.data = v.data + static_cast<index>(i) * v.stride[0];
      copy_elements(inner, to + i * bytes);
    }
  }
}

inline std::string json_string(std::string_view text) {
  std::string s = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20) s += {'\\', 'u', '0', '0', static_cast<char>('0' + (u >> 4)), "0123456789abcdef"[u & 15]};
    else {
      if (c == '"' || c == '\\') s += '\\';
      s += c;
    }
  }
  return s + '"';
}

// Tensors: a range of (name, entry) in the order of their data. The header's length is padded so that data starts on 8 bytes.
template <class Tensors>
std::string make_header(const std::map<std::string, std::string>& metadata, const Tensors& tensors) {
  std::string text = "{";
  const auto comma = [&] { return text.size() > 1 ? "," : ""; };
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    const std::size_t first = text.size();
    for (const auto& [key, value] : metadata) text += (text.size() > first ? "," : "") + json_string(key) + ":" + json_string(value);
    text += "}";
  }
  std::size_t at = 0;
  for (const auto* t : tensors) {
    const auto& [name, entry] = *t;
    text += comma() + json_string(name) + ":{\"dtype\":\"" + std::string(dtype_name(entry.type)) + "\",\"shape\":[";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) text += (i ? "," : "") + std::to_string(entry.shape[i]);
    text += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + entry.data.size()) + "]}";
    at += entry.data.size();
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

// Wide elements first: every tensor is then aligned to its elements, whatever the sizes before it.
template <class Tensors>
void write_tensors(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata, const Tensors& tensors) {
  std::vector<const typename Tensors::value_type*> order;
  for (const auto& t : tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return dtype_bytes(a->second.type) > dtype_bytes(b->second.type); });
  const std::string header = make_header(metadata, order);
  const std::uint64_t length = header.size();
  require(length <= static_cast<std::uint64_t>(header_limit) && std::ssize(order) <= tensor_limit, errc::file, path.string(),
          ": expected a header of at most ", header_limit, " bytes and ", tensor_limit, " tensors, got ", length, " and ", order.size());
  atomic_file file(path);
  file.write(&length, sizeof length);
  file.write(header.data(), header.size());
  for (const auto* t : order) file.write(t->second.data.data(), t->second.data.size());
  file.commit();
}

}  // namespace io
}  // namespace WEFT_ISA

inline namespace v1 {

WEFT_INLINE void tensor_writer::add(std::string name, dtype type, std::vector<index> shape, const void* data) {
  auto bytes = io::room_for(name, tensors_.contains(name), type, shape, data == nullptr);
  if (!bytes.empty()) std::memcpy(bytes.data(), data, bytes.size());
  tensors_.emplace(std::move(name), entry{type, std::move(shape), std::move(bytes)});
}

template <class T, int R>
WEFT_INLINE void tensor_writer::add(std::string name, const view<T, R>& v) {
  constexpr dtype type = dtype_of<std::remove_const_t<T>>;
  std::vector<index> shape(v.extent.begin(), v.extent.end());
  auto bytes = io::room_for(name, tensors_.contains(name), type, shape, v.null());
  io::copy_elements(v, bytes.data());
  tensors_.emplace(std::move(name), entry{type, std::move(shape), std::move(bytes)});
}

WEFT_INLINE void tensor_writer::metadata(std::string key, std::string value) {
  require(io::find_not_utf8(key) == key.npos && io::find_not_utf8(value) == value.npos, errc::value, "metadata ", io::quoted(key),
          ": expected UTF-8");
  metadata_.insert_or_assign(std::move(key), std::move(value));
}

WEFT_INLINE void tensor_writer::write(const std::filesystem::path& path) const { io::write_tensors(path, metadata_, tensors_); }

}  // namespace v1
}  // namespace weft
