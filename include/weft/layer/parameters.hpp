// A layer's parameters, read from a tensor file by their own names below a prefix, in the layer's storage type.
#pragma once
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "../io/safetensors.hpp"
#include "projection.hpp"

namespace weft {
inline namespace v1 {

inline constexpr index any_extent = -1;

// The file outlives this object, which only points to it.
template <storage T>
class parameters {
 public:
  explicit parameters(const tensor_file& file, std::string prefix = {}) : file_(&file), prefix_(std::move(prefix)) {}

  const tensor_file& file() const { return *file_; }
  std::string full_name(std::string_view name) const { return prefix_ + std::string(name); }
  const tensor* find(std::string_view name) const { return file_->find(full_name(name)); }
  parameters below(std::string_view prefix) const { return parameters(*file_, full_name(prefix)); }

 private:
  const tensor_file* file_;
  std::string prefix_;
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// The tensor of that name; any_extent fits all. Throws errc::missing and errc::shape, naming file and tensor.
template <storage T>
const tensor& expect_tensor(const parameters<T>& p, std::string_view name, std::span<const index> shape) {
  const tensor& t = p.file().at(p.full_name(name));
  bool fits = t.shape.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == any_extent || shape[i] == t.shape[i];
  require(fits, errc::shape, p.file().name(), ": tensor ", io::quoted(t.name), ": expected ", check::list(shape), " (-1: any), got ", check::list(t.shape));
  return t;
}

}  // namespace detail

// Tensors that are optional, but that a configuration says are there. Throws errc::missing, naming the first that is not.
template <storage T>
void expect_tensors(const parameters<T>& p, bool expected, std::initializer_list<std::string_view> names) {
  if (expected)
    for (const std::string_view name : names) static_cast<void>(p.file().at(p.full_name(name)));
}

template <int R, storage T>
array<T, R> load(const parameters<T>& p, std::string_view name, std::array<index, static_cast<std::size_t>(R)> shape) {
  return to_array<T, R>(detail::expect_tensor(p, name, shape));
}

template <storage T, int R>
array<accumulate_t<T>, R> widen(const array<T, R>& narrow) {
  array<accumulate_t<T>, R> wide(narrow.extent());
  for (index i = 0; i < narrow.size(); ++i) wide.data()[i] = static_cast<accumulate_t<T>>(narrow.data()[i]);
  return wide;
}

// So many numbers of any shape, as a vector.
template <storage T>
array<T, 1> load_vector(const parameters<T>& p, std::string_view name, index count) {
  tensor t = p.file().at(p.full_name(name));
  require(t.count() == count, errc::shape, p.file().name(), ": tensor ", io::quoted(t.name), ": expected ", count, " elements, got ", check::list(t.shape));
  t.shape = {count};
  return to_array<T, 1>(t);
}

// The same in the accumulating type: what everything but projections is kept in.
template <storage T>
array<accumulate_t<T>, 1> load_wide(const parameters<T>& p, std::string_view name, index count) {
  return widen(load_vector(p, name, count));
}

// The taps of a depthwise convolution, stored [channels, 1, taps], as [channels, taps] in the accumulating type.
template <storage T>
array<accumulate_t<T>, 2> load_taps(const parameters<T>& p, std::string_view name, index channels) {
  tensor t = detail::expect_tensor(p, name, std::array{channels, index{1}, any_extent});
  require(t.shape[2] >= 1, errc::shape, p.file().name(), ": tensor ", io::quoted(t.name), ": expected at least one tap, got none");
  t.shape = {channels, t.shape[2]};
  return widen(to_array<T, 2>(t));
}

// name.weight [out, in] and, where there is one, name.bias [out].
template <storage T>
projection<T> load_projection(const parameters<T>& p, const std::string& name, index out, index in) {
  projection<T> q{load<2>(p, name + ".weight", {out, in}), {}};
  if (p.find(name + ".bias")) q.bias = load<1>(p, name + ".bias", {q.outputs()});
  return q;
}

}  // namespace WEFT_ISA
}  // namespace weft
