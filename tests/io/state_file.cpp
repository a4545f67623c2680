// States saved and restored bit for bit, alone, within a tuple and as one of many in a file.
#include <random>
#include <sstream>

#include "io/files.hpp"
#include "weft/io/state_file.hpp"
#include "weft/recurrence/all.hpp"
#include "weft/recurrence/literal.hpp"

using files::error_of;

namespace {

// A state with parts of several types and a state inside, and what it is restored by.
struct cache_state {
  static constexpr std::string_view kind = "test.cache";
  weft::array<weft::bf16, 4> keys;
  weft::array<std::int64_t, 1> length;
  weft::recurrent_state<float> rest;
  auto parts() { return std::tuple{weft::part{"keys", keys}, weft::part{"length", length}, weft::part{"rest", rest}}; }
  auto parts() const { return std::tuple{weft::part{"keys", keys}, weft::part{"length", length}, weft::part{"rest", rest}}; }
  void check() const {
    for (weft::index i = 0; i < length.size(); ++i)
      weft::require(length(i) >= 0 && length(i) <= keys.extent(1), weft::errc::value, "length: expected at most the capacity");
  }
};
struct cache {
  struct inputs {};
  struct outputs {};
  using state_type = cache_state;
  state_type state(const weft::shape& s) const {
    cache_state c;
    c.keys = weft::array<weft::bf16, 4>({s.batch, s.capacity, s.heads, s.key_dim});
    c.length = weft::array<std::int64_t, 1>({s.batch});
    c.rest = weft::linear_attention<float>{}.state(s);
    return c;
  }
};
// What a combinator has for a state.
struct pair_of_mixers {
  struct inputs {};
  struct outputs {};
  using state_type = std::tuple<weft::recurrent_state<double>, cache_state>;
  state_type state(const weft::shape& s) const { return {weft::linear_attention_normalised<double>{}.state(s), cache{}.state(s)}; }
};

const weft::shape shape{.batch = 2, .heads = 3, .key_dim = 4, .value_dim = 5, .capacity = 6};

template <class S>
void scramble(S& s, unsigned seed) {
  std::mt19937 random(seed);
  weft::io::for_each_array(s, "", [&](const std::string&, auto& a) {
    for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = std::remove_cvref_t<decltype(a.data()[i])>(static_cast<float>(random() % 6));
  });
}
template <class S>
std::string all_bytes(const S& s) {
  std::string bytes;
  weft::io::for_each_array(s, "", [&](const std::string& name, const auto& a) {
    std::ostringstream extents;
    extents << weft::check::list(a.extent());
    bytes += name + extents.str() + (a.null() ? "null" : std::string(reinterpret_cast<const char*>(a.data()), a.bytes()));
  });
  return bytes;
}

template <class M>
void round_trip(const M& mixer) {
  files::temporary_folder folder;
  auto s = mixer.state(shape);
  scramble(s, 5);
  weft::save(s, folder / "s");
  CHECK(all_bytes(weft::restore(mixer, folder / "s")) == all_bytes(s));
}

}  // namespace

TEST_CASE("States of every kind come back bit for bit") {
  round_trip(weft::linear_attention<float>{});
  round_trip(weft::linear_attention<double>{});
  round_trip(weft::linear_attention_normalised<float>{});
  round_trip(weft::recurrence<weft::gated_delta_policy, weft::bf16, weft::bf16>{});
  round_trip(weft::recurrence<weft::gated_delta_policy, weft::fp16, weft::fp16>{});
  round_trip(cache{});
  round_trip(pair_of_mixers{});
}

TEST_CASE("A scan goes on from a restored state as if it had never stopped") {
  files::temporary_folder folder;
  using mixer_type = weft::linear_attention_normalised<float>;
  const mixer_type mixer;
  weft::array<float, 4> q({2, 7, 3, 4}), k({2, 7, 3, 4}), v({2, 7, 3, 5}), whole({2, 7, 3, 5}), pieces({2, 7, 3, 5});
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (auto* a : {&q, &k, &v})
    for (weft::index i = 0; i < a->size(); ++i) a->data()[i] = normal(random);
  auto s = mixer.state(shape);
  weft::literal(mixer, {.q = q, .k = k, .v = v}, s, {.o = whole});
  auto part = mixer.state(shape);
  const auto run = [&](weft::recurrent_state<float>& state, weft::index first, weft::index count) {
    const mixer_type::inputs in{.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count)};
    weft::literal(mixer, in, state, {.o = pieces.view().slice(1, first, count)});
  };
  run(part, 0, 3);
  weft::save(part, folder / "s");
  auto later = weft::restore(mixer, folder / "s");
  run(later, 3, 4);
  CHECK(std::memcmp(whole.data(), pieces.data(), whole.bytes()) == 0);
  CHECK(all_bytes(later) == all_bytes(s));
}

TEST_CASE("Many states share one file, each under its own prefix") {
  files::temporary_folder folder;
  const weft::linear_attention<float> plain;
  auto a = plain.state(shape), b = plain.state({.batch = 1, .heads = 1, .key_dim = 2, .value_dim = 2});
  auto c = cache{}.state(shape);
  scramble(a, 1), scramble(b, 2), scramble(c, 3);
  weft::tensor_writer writer;
  weft::save_parts(a, writer, "layers.1");
  weft::save_parts(b, writer, "layers.10");
  weft::save_parts(c, writer, "layers.2");
  writer.write(folder / "s");
  const auto file = weft::tensor_file::read(folder / "s");
  CHECK(file.find("layers.2.rest.matrix") != nullptr);
  CHECK(all_bytes(weft::restore_parts(plain, file, "layers.1")) == all_bytes(a));
  CHECK(all_bytes(weft::restore_parts(plain, file, "layers.10")) == all_bytes(b));
  CHECK(all_bytes(weft::restore_parts(cache{}, file, "layers.2")) == all_bytes(c));
  CHECK(error_of([&] { weft::restore_parts(plain, file, "layers.3"); }).code == weft::errc::missing);
  CHECK(error_of([&] { weft::restore_parts(plain, file, "layers.2"); }).code == weft::errc::file);
  CHECK(error_of([&] { weft::save_parts(a, writer, "layers.1"); }).code == weft::errc::value);
}

TEST_CASE("States without sequences, heads or width are states") {
  files::temporary_folder folder;
  for (const auto& empty : {weft::shape{}, weft::shape{.batch = 0, .heads = 3, .key_dim = 4, .value_dim = 5},
                            weft::shape{.batch = 2, .heads = 3, .key_dim = 4, .value_dim = 0}}) {
    const auto s = cache{}.state(empty);
    weft::save(s, folder / "s");
    CHECK(all_bytes(weft::restore(cache{}, folder / "s")) == all_bytes(s));
  }
}

TEST_CASE("A file that is not this state is refused") {
  files::temporary_folder folder;
  const weft::linear_attention<float> plain;
  const auto refusal = [&](const auto& mixer) { return error_of([&] { weft::restore(mixer, folder / "s"); }); };
  weft::save(plain.state(shape), folder / "s");
  const std::string file = "weft: " + (folder / "s").string() + ": ";

  CHECK(refusal(weft::linear_attention<double>{}).text == file + "tensor \"matrix\": expected F64, got F32");
  CHECK(refusal(weft::linear_attention<double>{}).code == weft::errc::unsupported);
  CHECK(refusal(weft::linear_attention_normalised<float>{}).code == weft::errc::missing);
  CHECK(refusal(cache{}).text == file + "metadata kind: expected \"test.cache\", got nothing");

  weft::save(weft::linear_attention_normalised<float>{}.state(shape), folder / "s");
  CHECK(refusal(plain).text == file + "tensor \"normaliser\" is no part of this mixer's state");
  CHECK(refusal(plain).code == weft::errc::file);

  const auto write = [&](const char* format, const char* version, weft::array<float, 4> matrix, weft::array<float, 3> normaliser) {
    weft::tensor_writer writer;
    if (format) writer.metadata("format", format);
    writer.metadata("version", version);
    writer.add("matrix", matrix);
    writer.add("normaliser", normaliser);
    writer.write(folder / "s");
  };
  const weft::linear_attention_normalised<float> normalised;
  const weft::array<float, 4> matrix({2, 1, 1, 1});
  write(nullptr, "1", matrix, weft::array<float, 3>({2, 1, 1}));
  CHECK(refusal(normalised).text == file + "metadata format: expected \"weft.state\", got nothing");
  write("weft.state", "2", matrix, weft::array<float, 3>({2, 1, 1}));
  CHECK(refusal(normalised).text == file + "metadata version: expected \"1\", got \"2\"");
  write("weft.state", "1", matrix, weft::array<float, 3>({3, 1, 1}));
  CHECK(refusal(normalised).text == file + "tensor \"normaliser\": expected 2 sequences, as the part before it has, got 3");
  CHECK(refusal(normalised).code == weft::errc::shape);

  weft::tensor_writer flat;
  flat.metadata("format", "weft.state");
  flat.metadata("version", "1");
  flat.add("matrix", weft::array<float, 3>({1, 1, 1}));
  flat.write(folder / "s");
  CHECK(refusal(plain).text == "weft: tensor \"matrix\": expected 4 dimensions, got [1, 1, 1]");

  auto lying = cache{}.state(shape);
  lying.length(1) = 7;
  weft::save(lying, folder / "s");
  CHECK(refusal(cache{}).code == weft::errc::value);
}
