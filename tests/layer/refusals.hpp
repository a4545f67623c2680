// Calls that are refused: by a message that names the tensor, and with every array as it was.
#pragma once
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/array.hpp>

#include "../catch.hpp"

namespace test {

template <class T, int R>
weft::view<T, R> shifted(weft::view<T, R> v) {
  ++v.data;
  return v;
}

class refusals {
 public:
  template <class... A>
  explicit refusals(const A&... arrays) {
    (before_.emplace_back(reinterpret_cast<const std::byte*>(arrays.data()), std::vector(reinterpret_cast<const std::byte*>(arrays.data()), reinterpret_cast<const std::byte*>(arrays.data()) + arrays.bytes())), ...);
  }

  template <class F>
  void says(const std::string& message, F&& call) const {
    CHECK_THROWS_WITH(call(), Catch::Matchers::StartsWith("weft: " + message));
    for (const auto& [data, bytes] : before_) CHECK(std::memcmp(data, bytes.data(), bytes.size()) == 0);
  }
  // call(view) with what cannot be a tensor that is read.
  template <class V, class F>
  void input(const std::string& name, const V& v, F&& call, bool optional = false) const {
    CAPTURE(name);
    const auto refused = [&](auto&& change) {
      V odd = v;
      change(odd);
      says(name + ": expected ", [&] { call(odd); });
    };
    if (!optional) refused([](V& odd) { odd.data = nullptr; });
    refused([](V& odd) { odd.extent[0] = -1; });
    refused([](V& odd) { odd.extent.fill(-2); });
    refused([](V& odd) { odd.extent[0] = weft::index{1} << 62; });
    refused([](V& odd) { odd.stride[0] = weft::index{1} << 62; });
    if (std::is_floating_point_v<std::remove_const_t<typename V::element>>) refused([](V& odd) { odd.stride.back() = 2; });
  }
  // The same with what is written.
  template <class V, class F>
  void result(const std::string& name, const V& v, F&& call, bool optional = false) const {
    input(name, v, call, optional);
    V odd = v;
    odd.stride[0] = 0;
    says(name + ": expected a", [&] { call(odd); });  // place of its own for every element, or a last stride of 1
  }

 private:
  std::vector<std::pair<const std::byte*, std::vector<std::byte>>> before_;
};

}  // namespace test
