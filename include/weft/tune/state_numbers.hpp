// States of any kind as names and numbers: what tuning, files and batches of tuned states are written over.
#pragma once
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "../layer/any_layer.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The parts of a state that are there, as tensors that point into it.
template <class S>
std::vector<tensor> parts_of(const S& s) {
  std::vector<tensor> all;
  io::for_each_array(s, {}, [&](const std::string& name, const auto& a) {
    using element = typename std::remove_cvref_t<decltype(a)>::element;
    if (!a.null())
      all.push_back({.name = name, .type = dtype_of<element>, .shape = {a.extent().begin(), a.extent().end()}, .data = reinterpret_cast<const std::byte*>(a.data())});
  });
  return all;
}
inline std::vector<tensor> parts_of(const any_state& s) { return s.parts(); }

// A part of a state that may be written.
inline std::byte* writable(const tensor& part_of_a_writable_state) { return const_cast<std::byte*>(part_of_a_writable_state.data); }

template <class R>
std::span<R> numbers_of(const tensor& part_of_a_writable_state) {
  return {reinterpret_cast<R*>(writable(part_of_a_writable_state)), static_cast<std::size_t>(part_of_a_writable_state.count())};
}

template <class S>
void clear(S& s) {
  for (const tensor& t : parts_of(s)) std::memset(writable(t), 0, static_cast<std::size_t>(t.bytes()));
}

// Row `row` of a state becomes `from`, a state of one sequence (null: nothing was seen, all zeros). `whose` names the state in messages.
template <class S>
void set_row(S& s, index row, const S* from, const std::string& whose) {
  const auto to = parts_of(s), rows = from ? parts_of(*from) : std::vector<tensor>();
  require(!from || to.size() == rows.size(), errc::value, whose, ": expected a state of ", to.size(), " parts, got one of ", rows.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    const tensor& t = to[i];
    const auto bytes = static_cast<std::size_t>(t.bytes() / t.shape[0]);
    std::byte* const at = writable(t) + static_cast<std::size_t>(row) * bytes;
    if (from) {
      std::vector<index> expected = t.shape;
      expected[0] = 1;
      require(rows[i].name == t.name && rows[i].type == t.type && rows[i].shape == expected, errc::shape, whose, ": expected ", t.name, " ", dtype_name(t.type), " ", check::list(expected),
              ", got ", rows[i].name, " ", dtype_name(rows[i].type), " ", check::list(rows[i].shape));
      std::memcpy(at, rows[i].data, bytes);
    } else {
      std::memset(at, 0, bytes);
    }
  }
}

}  // namespace WEFT_ISA
}  // namespace weft
