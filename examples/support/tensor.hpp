// The tensors of one call by name, and the tensors that it returns.
#pragma once
#include <weft/io/safetensors.hpp>
#include <weft/io/tensor.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ops {

using weft::index;

// Views: whoever makes the map keeps the elements, a tensor_file most often.
using tensor_map = std::map<std::string, weft::tensor, std::less<>>;

tensor_map tensors_of(const weft::tensor_file& file);

// An output, with elements of its own.
struct result_tensor {
  weft::dtype type = weft::dtype::f32;
  std::vector<index> shape;
  std::vector<std::byte> bytes;
};
using result_map = std::map<std::string, result_tensor, std::less<>>;

template <class T, int Rank>
result_tensor to_result(const weft::array<T, Rank>& a) {
  const auto* first = reinterpret_cast<const std::byte*>(a.data());
  return {weft::dtype_of<T>, {a.extent().begin(), a.extent().end()}, {first, first + a.bytes()}};
}

template <class T>
struct tag {
  using type = T;
};

// f(tag<T>) with the storage type that a dtype names; false where it names none.
template <class F>
bool visit_storage(weft::dtype type, F&& f) {
  if (type == weft::dtype::f32) f(tag<float>{});
  else if (type == weft::dtype::f64) f(tag<double>{});
  else if (type == weft::dtype::bf16) f(tag<weft::bf16>{});
  else if (type == weft::dtype::f16) f(tag<weft::fp16>{});
  else return false;
  return true;
}

// Finds the inputs. Every getter throws weft::error naming the tensor, what was expected and what came.
class tensor_reader {
 public:
  explicit tensor_reader(const tensor_map& tensors) : tensors_(tensors) {}

  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  const weft::tensor& get(std::string_view name) const;

  // In the type T, whatever type of its kind the file keeps. Null where absent and optional.
  template <class T, int Rank>
  weft::array<T, Rank> array(std::string_view name, bool optional = false) const {
    if (optional && !has(name)) return {};
    return weft::to_array<T, Rank>(get(name));
  }
  // Replaces `to`, where the file has it, by a tensor of the same extents; false where it has not.
  template <class T, int Rank>
  bool replace(std::string_view name, weft::array<T, Rank>& to) const {
    if (to.null() || !has(name)) return false;
    auto given = array<T, Rank>(name);
    weft::require(given.extent() == to.extent(), weft::errc::shape, name, ": expected ", weft::check::list(to.extent()), ", got ",
                  weft::check::list(given.extent()));
    to = std::move(given);
    return true;
  }
  // Checked offsets of packed sequences; empty where the tokens are not packed.
  std::vector<index> cu_seqlens(index batch, index time) const;

 private:
  const tensor_map& tensors_;
};

}  // namespace ops
