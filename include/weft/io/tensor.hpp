// Tensors of a file: element types, a non-owning tensor of run-time type and rank, and its conversion to an array.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/array.hpp"
#include "../core/check.hpp"
#include "../core/dtype.hpp"
#include "text.hpp"

namespace weft {
inline namespace v1 {

enum class dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

inline constexpr std::array<std::string_view, 13> dtype_names{"F64", "F32", "F16", "BF16", "I64", "I32", "I16",
                                                              "I8",  "U64", "U32", "U16",  "U8",  "BOOL"};
inline constexpr std::array<index, 13> dtype_sizes{8, 4, 2, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1};

// As safetensors spells it: "F32".
WEFT_INLINE constexpr std::string_view dtype_name(dtype t) { return dtype_names[static_cast<std::size_t>(t)]; }
WEFT_INLINE constexpr index dtype_bytes(dtype t) { return dtype_sizes[static_cast<std::size_t>(t)]; }

namespace detail {
template <class... T>
struct type_list {};
// In the order of dtype. BOOL is read as the byte that it is.
using dtype_elements = type_list<double, float, fp16, bf16, std::int64_t, std::int32_t, std::int16_t, std::int8_t, std::uint64_t,
                                 std::uint32_t, std::uint16_t, std::uint8_t, bool>;
template <class T, class... U>
constexpr std::size_t position(type_list<U...>) {
  std::size_t at = 0;
  static_cast<void>(((std::is_same_v<T, U> || (++at, false)) || ...));
  return at;
}
}  // namespace detail

template <class T>
concept tensor_element = detail::position<T>(detail::dtype_elements{}) < dtype_names.size();

template <tensor_element T>
inline constexpr dtype dtype_of = static_cast<dtype>(detail::position<T>(detail::dtype_elements{}));

// Contiguous, row-major, little-endian, in memory that a tensor_file owns; aligned for nothing but bytes.
struct tensor {
  std::string name;
  weft::dtype type = weft::dtype::f32;
  std::vector<index> shape;
  const std::byte* data = nullptr;

  WEFT_INLINE index count() const {
    index n = 1;
    for (const index e : shape) n *= e;
    return n;
  }
  WEFT_INLINE index bytes() const { return count() * dtype_bytes(type); }
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace io {

template <class T>
inline constexpr bool is_real = storage<T>;

// One element of a file as a T; `t` is named where it does not fit.
template <class T, class From>
WEFT_INLINE T convert(From x, const tensor& t) {
  if constexpr (is_real<T>) {
    using wide = std::conditional_t<std::is_same_v<From, double>, double, float>;
    if constexpr (sizeof(T) == 2) return T(static_cast<float>(static_cast<wide>(x)));
    else return static_cast<T>(static_cast<wide>(x));
  } else {
    if (!std::in_range<T>(x)) [[unlikely]]
      fail(errc::value, "tensor ", io::quoted(t.name), ": expected values that fit ", dtype_name(dtype_of<T>), ", got ", std::to_string(x));
    return static_cast<T>(x);
  }
}

}  // namespace io

// A copy with elements of T: any floating type from any floating type (F64 to a 16-bit type by way of float; beyond the range is
// infinite), any integer from integers and BOOL that fit it. Throws errc::shape for another rank, errc::unsupported for a mix of floating
// and integer, errc::value for an integer that does not fit; each names the tensor.
template <tensor_element T, int R>
array<T, R> to_array(const tensor& t) {
  static_assert(!std::is_same_v<T, bool>, "weft: to_array: read BOOL as std::uint8_t");
  require(t.shape.size() == static_cast<std::size_t>(R), errc::shape, "tensor ", io::quoted(t.name), ": expected ", R, " dimensions, got ",
          check::list(t.shape));
  std::array<index, static_cast<std::size_t>(R)> extent{};
  for (std::size_t d = 0; d < extent.size(); ++d) extent[d] = t.shape[d];
  array<T, R> out(extent);
  if (t.type == dtype_of<T>) {
    if (out.size() > 0) std::memcpy(static_cast<void*>(out.data()), t.data, out.bytes());
    return out;
  }
  const auto from = [&]<class Element>(std::type_identity<Element>) {
    if (t.type != dtype_of<Element>) return false;
    using From = std::conditional_t<std::is_same_v<Element, bool>, std::uint8_t, Element>;
    if constexpr (io::is_real<From> == io::is_real<T>)
      for (index i = 0; i < out.size(); ++i) {
        From x;
        std::memcpy(static_cast<void*>(&x), t.data + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
        out.data()[i] = io::convert<T>(x, t);
      }
    else
      fail(errc::unsupported, "tensor ", io::quoted(t.name), ": expected ", io::is_real<T> ? "a floating type" : "an integer type", " for ",
           dtype_name(dtype_of<T>), ", got ", dtype_name(t.type));
    return true;
  };
  [&]<class... Element>(v1::detail::type_list<Element...>) {
    static_cast<void>((from(std::type_identity<Element>{}) || ...));
  }(v1::detail::dtype_elements{});
  return out;
}

}  // namespace WEFT_ISA
}  // namespace weft
