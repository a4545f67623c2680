// Token embedding: a row of weights for each token.
#pragma once
#include <cstdint>
#include <tuple>

#include "../backend/cpu/elementwise.hpp"
#include "../core/array.hpp"
#include "../core/state.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct embedding {
  array<T, 2> weight{};  // [vocabulary, hidden]

  auto parts() { return std::tuple{part{"weight", weight}}; }
  auto parts() const { return std::tuple{part{"weight", weight}}; }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {
template <class T>
void check_tokens(view<const std::int64_t, 2> tokens, const array<T, 2>& weight) {
  check::tensor("tokens", tokens, tokens.extent, false, false);
  for (index b = 0; b < tokens.extent[0]; ++b)
    for (index t = 0; t < tokens.extent[1]; ++t)
      require(tokens(b, t) >= 0 && tokens(b, t) < weight.extent(0), errc::value, "tokens: expected 0 to ", weight.extent(0) - 1, ", got ", tokens(b, t), " at [", b, ", ",
              t, "]");
}
}  // namespace detail

// tokens [B, T], x [B, T, hidden]. Throws errc::shape, errc::missing, errc::overlap, and errc::value for a token beyond the vocabulary.
template <storage T>
void embed(cpu& executor, const embedding<T>& e, view<const std::int64_t, 2> tokens, const std::type_identity_t<output<T, 3>>& x) {
  detail::check_tokens(tokens, e.weight);
  const index width = e.weight.extent(1);
  const check::operand result("x", x);
  check::result(result, std::array{tokens.extent[0], tokens.extent[1], width}, false, true);
  check::apart({result}, {{"tokens", tokens}, {"weight", e.weight.view()}});
  x.visit([&](const auto& to) {
    for_rows(executor, {tokens.extent[0], tokens.extent[1], 1}, width, [&](index b, index t, index) {
      const T* const from = &e.weight(tokens(b, t), 0);
      for_lanes<accumulate_t<T>>(width, [&](index c, auto lane) { put(&to(b, t, 0) + c, get(from + c, lane), lane); });
    });
  });
}

// d.weight += the gradient of x at every place of its token, in their order: the same bits for any number of workers.
// Throws as embed.
template <storage T>
void embed_vjp(cpu& executor, view<const std::int64_t, 2> tokens, std::type_identity_t<view<const accumulate_t<T>, 3>> d_x, embedding<T>& d)
  requires(std::is_same_v<T, accumulate_t<T>>)
{
  detail::check_tokens(tokens, d.weight);
  const index width = d.weight.extent(1);
  check::tensor("d_x", d_x, {tokens.extent[0], tokens.extent[1], width}, false, true);
  check::apart({{"d_weight", d.weight.view()}}, {{"tokens", tokens}, {"d_x", d_x}});
  constexpr index block = 64;  // channels of a task
  executor.parallel_for((width + block - 1) / block, [&](index task, int) {
    const index first = task * block, count = std::min(block, width - first);
    for (index b = 0; b < tokens.extent[0]; ++b)
      for (index t = 0; t < tokens.extent[1]; ++t) {
        T* const to = &d.weight(tokens(b, t), first);
        for_lanes<T>(count, [&](index c, auto lane) { put(to + c, get(to + c, lane) + get(&d_x(b, t, first) + c, lane), lane); });
      }
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
