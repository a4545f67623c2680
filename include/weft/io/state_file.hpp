// States to files and back, bit for bit: one tensor a part, by the part's name. A state within a state, and each state of a tuple,
// adds its name or number: "layer.3.matrix".
#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "../core/state.hpp"
#include "../core/verbs.hpp"
#include "safetensors.hpp"
#include "safetensors_writer.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace io {

template <class>
inline constexpr bool is_array = false;
template <class T, int R>
inline constexpr bool is_array<array<T, R>> = true;

template <class S>
concept tuple_of_states = requires { std::tuple_size<std::remove_const_t<S>>::value; };

inline std::string join(const std::string& prefix, const std::string& name) { return prefix.empty() ? name : prefix + "." + name; }

// f(name, array) for every array of a state, in order.
template <class S, class F>
void for_each_array(S& s, const std::string& prefix, F&& f) {
  if constexpr (is_array<std::remove_const_t<S>>) f(prefix, s);
  else if constexpr (tuple_of_states<S>)
    std::apply([&, i = 0](auto&... states) mutable { (for_each_array(states, join(prefix, std::to_string(i++)), f), ...); }, s);
  else {
    static_assert(state<std::remove_const_t<S>>, "weft: save and restore: the type is not a state: it needs parts(), const and not");
    for_each_part(s, [&](const auto& p) { for_each_array(p.data, join(prefix, p.name), f); });
  }
}

// What a state type calls itself, where it does.
template <class S>
std::string kind_of() {
  if constexpr (requires { std::string(S::kind); }) return std::string(S::kind);
  else return {};
}

// Asks a state, or each state within it, whether its contents make sense.
template <class S>
void check_contents(const S& s) {
  if constexpr (requires { s.check(); }) s.check();
  else if constexpr (tuple_of_states<S>) std::apply([](const auto&... states) { (check_contents(states), ...); }, s);
  else if constexpr (!is_array<S>) for_each_part(s, [](const auto& p) { check_contents(p.data); });
}

template <class T, int R>
void restore_array(const tensor_file& file, const std::string& name, array<T, R>& to, index& batch) {
  const tensor& t = file.at(name);
  require(t.type == dtype_of<T>, errc::unsupported, file.name(), ": tensor ", io::quoted(name), ": expected ", dtype_name(dtype_of<T>), ", got ",
          dtype_name(t.type));
  to = to_array<T, R>(t);
  if (batch < 0) batch = to.extent(0);
  require(to.extent(0) == batch, errc::shape, file.name(), ": tensor ", io::quoted(name), ": expected ", batch,
          " sequences, as the part before it has, got ", to.extent(0));
}

}  // namespace io

// Adds the parts of a state, or of a tuple of states, as "prefix.part"; a null (absent) part is left out. Throws as add does.
template <class S>
void save_parts(const S& s, tensor_writer& writer, const std::string& prefix = {}) {
  io::for_each_array(s, prefix, [&](const std::string& name, const auto& a) {
    if (!a.null()) writer.add(name, a);
  });
}

// The mixer's state from the tensors "prefix.part". The parts must be those of mixer.state({}), of its types and ranks and of one batch;
// what else starts with the prefix is an error too. A mixer with check_state(state), or else a state with check(), is asked whether
// the contents make sense.
// Throws errc::missing, unsupported, shape or file, naming tensor and file.
template <class M>
state_t<M> restore_parts(const M& mixer, const tensor_file& file, const std::string& prefix = {}) {
  state_t<M> s = mixer.state(shape{});
  std::vector<std::string> expected;
  io::for_each_array(s, prefix, [&](const std::string& name, const auto& a) {
    if (!a.null()) expected.push_back(name);
  });
  for (const tensor& t : file.tensors())
    require(!t.name.starts_with(io::join(prefix, "")) || std::find(expected.begin(), expected.end(), t.name) != expected.end(), errc::file,
            file.name(), ": tensor ", io::quoted(t.name), " is no part of this mixer's state");
  index batch = -1;
  io::for_each_array(s, prefix, [&](const std::string& name, auto& a) {
    if (!a.null()) io::restore_array(file, name, a, batch);
  });
  if constexpr (requires { mixer.check_state(s); }) mixer.check_state(s);
  else io::check_contents(s);
  return s;
}

// Writes one state to a file that is replaced whole or not at all. Throws errc::file.
template <class S>
void save(const S& s, const std::filesystem::path& path) {
  tensor_writer writer;
  writer.metadata("format", "weft.state");
  writer.metadata("version", "1");
  if (const std::string kind = io::kind_of<S>(); !kind.empty()) writer.metadata("kind", kind);
  save_parts(s, writer);
  writer.write(path);
}

// The state that save() wrote, for a mixer with this type of state: `S = weft::restore(mixer, path)`.
// Throws as restore_parts, and errc::file for a file that is not such a state.
template <class M>
state_t<M> restore(const M& mixer, const std::filesystem::path& path) {
  const tensor_file file = tensor_file::read(path);
  const auto expect = [&](const std::string& key, const std::string& value) {
    const auto at = file.metadata().find(key);
    const std::string got = at == file.metadata().end() ? "nothing" : io::quoted(at->second);
    require(got == io::quoted(value), errc::file, file.name(), ": metadata ", key, ": expected ", io::quoted(value), ", got ", got);
  };
  expect("format", "weft.state");
  expect("version", "1");
  if (const std::string kind = io::kind_of<state_t<M>>(); !kind.empty()) expect("kind", kind);
  return restore_parts(mixer, file);
}

}  // namespace WEFT_ISA
}  // namespace weft
