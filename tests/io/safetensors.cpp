// Reading and writing tensors: what goes in comes out, whatever its type, shape and order.
#include <random>

#include "io/files.hpp"
#include "weft/io/safetensors_writer.hpp"

using files::error_of;
using weft::dtype;

namespace {

template <class T>
T number(int i) {
  if constexpr (weft::storage<T>) return T(static_cast<float>(i) * 0.25f - 3.0f);
  else return static_cast<T>(i % 100);
}

template <class T>
bool same_bytes(const T& a, const T& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

TEMPLATE_TEST_CASE("Every element type comes back bit for bit", "", double, float, weft::fp16, weft::bf16, std::int64_t, std::int32_t,
                   std::int16_t, std::int8_t, std::uint64_t, std::uint32_t, std::uint16_t, std::uint8_t) {
  files::temporary_folder folder;
  weft::array<TestType, 3> a({2, 3, 4});
  for (int i = 0; i < 24; ++i) a.data()[i] = number<TestType>(i);
  weft::tensor_writer writer;
  writer.add("a", a);
  writer.add("half", a.view().slice(2, 1, 2));
  writer.add("swapped", weft::view<const TestType, 2>(a.data(), {4, 3}, {1, 4}));
  writer.add("scalar", weft::dtype_of<TestType>, {}, a.data() + 5);
  writer.write(folder / "f");
  const auto file = weft::tensor_file::read(folder / "f");
  CHECK(file.tensors().size() == 4);
  CHECK(file.at("a").type == weft::dtype_of<TestType>);
  CHECK(file.at("scalar").count() == 1);
  const auto whole = weft::to_array<TestType, 3>(file.at("a")), half = weft::to_array<TestType, 3>(file.at("half"));
  const auto swapped = weft::to_array<TestType, 2>(file.at("swapped"));
  for (int i = 0; i < 24; ++i) CHECK(same_bytes(whole.data()[i], a.data()[i]));
  for (int i = 0; i < 12; ++i) {
    CHECK(same_bytes(half(i / 6, i / 2 % 3, i % 2), a(i / 6, i / 2 % 3, i % 2 + 1)));
    CHECK(same_bytes(swapped(i / 3, i % 3), a(0, i % 3, i / 3)));
  }
  CHECK(same_bytes(weft::to_array<TestType, 0>(file.at("scalar")).data()[0], a.data()[5]));
}

TEST_CASE("Random sets of tensors come back, however their sizes fall") {
  files::temporary_folder folder;
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    weft::tensor_writer writer;
    std::vector<weft::tensor> expected;
    std::vector<std::vector<std::byte>> data;
    for (auto n = random() % 8; n > 0; --n) {
      weft::tensor t{"t" + std::to_string(n) + (random() % 2 ? "\"\\/\xc3\xa9" : ""), static_cast<dtype>(random() % 13), {}, nullptr};
      for (auto r = random() % 5; r > 0; --r) t.shape.push_back(static_cast<weft::index>(random() % 4));
      auto& bytes = data.emplace_back(static_cast<std::size_t>(t.bytes()));
      for (auto& b : bytes) b = static_cast<std::byte>(random() % 256);
      writer.add(t.name, t.type, t.shape, bytes.data());
      expected.push_back(t);
    }
    writer.metadata("note", "line\nline \"\\\t\x01 \xf0\x9f\x98\x80");
    writer.write(folder / "f");
    const auto file = weft::tensor_file::read(folder / "f");
    REQUIRE(file.tensors().size() == expected.size());
    CHECK(file.metadata() == std::map<std::string, std::string>{{"note", "line\nline \"\\\t\x01 \xf0\x9f\x98\x80"}});
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto& t = file.at(expected[i].name);
      CHECK(t.type == expected[i].type);
      CHECK(t.shape == expected[i].shape);
      CHECK(std::equal(data[i].begin(), data[i].end(), t.data));
      if (weft::dtype_bytes(t.type) > 1 && t.count() > 0)
        CHECK(reinterpret_cast<std::uintptr_t>(t.data) % static_cast<std::uintptr_t>(weft::dtype_bytes(t.type)) == 0);
    }
  }
}

TEST_CASE("A file is a few known bytes") {
  files::temporary_folder folder;
  const std::int16_t x[] = {258, -2};
  const float y = 1;
  weft::tensor_writer writer;
  writer.metadata("k", "v");
  writer.add("x", dtype::i16, {1, 2}, x);
  writer.add("y", dtype::f32, {}, &y);
  writer.write(folder / "f");
  const std::string header = R"({"__metadata__":{"k":"v"},"y":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                             R"("x":{"dtype":"I16","shape":[1,2],"data_offsets":[4,8]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  CHECK(files::slurp(folder / "f") == files::length_bytes(header.size() + padding.size()) + header + padding +
                                          std::string("\x00\x00\x80\x3f\x02\x01\xfe\xff", 8));
}

TEST_CASE("Tensors are found in any listing order, and a missing one is named with its file") {
  const auto file = files::parse(
      files::with_header("{ \"b\" : {\"data_offsets\":[4,8],\n\"shape\":[1],\"dtype\":\"F32\"},\t\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
                         "\"data_offsets\":[0,4]},\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}  ", 8));
  CHECK(file.tensors().front().name == "a");
  CHECK(file.at("b").data == file.at("a").data + 4);
  CHECK(file.find("e")->count() == 0);
  CHECK(file.find("c") == nullptr);
  const auto e = error_of([&] { file.at("c\n"); });
  CHECK(e.code == weft::errc::missing);
  CHECK(e.text == "weft: tensor \"c\\x0a\": expected in f.safetensors, which lacks it");
}

TEST_CASE("Data at an odd byte is read all the same") {
  std::string bytes = files::with_header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[2],"data_offsets":[1,17]}})", 17);
  const double x[] = {1.5, -2e300};
  std::memcpy(bytes.data() + bytes.size() - 16, x, 16);
  const auto file = files::parse(bytes);
  const auto b = weft::to_array<double, 1>(file.at("b"));
  CHECK(b(0) == x[0]);
  CHECK(b(1) == x[1]);
  CHECK(weft::to_array<float, 1>(file.at("b"))(1) == -std::numeric_limits<float>::infinity());
}

TEST_CASE("Elements convert within floating types and within integers") {
  files::temporary_folder folder;
  const std::vector<float> values{0.0f, -0.0f, 1.0f, 1.00390625f, -65504.0f, 1e-7f, std::numeric_limits<float>::infinity(),
                                  std::numeric_limits<float>::quiet_NaN()};
  const auto n = static_cast<weft::index>(values.size());
  weft::array<float, 1> f({n});
  weft::array<double, 1> d({n});
  weft::array<weft::bf16, 1> b({n});
  weft::array<weft::fp16, 1> h({n});
  for (weft::index i = 0; i < n; ++i) {
    const float x = values[static_cast<std::size_t>(i)];
    f(i) = x, d(i) = static_cast<double>(x), b(i) = weft::bf16(x), h(i) = weft::fp16(x);
  }
  const std::uint8_t truth[] = {1, 0};
  const std::int64_t wide[] = {-5, std::int64_t{1} << 40};
  const std::uint64_t huge[] = {~std::uint64_t{0}};
  weft::tensor_writer writer;
  writer.add("f", f), writer.add("d", d), writer.add("b", b), writer.add("h", h);
  writer.add("truth", dtype::boolean, {2}, truth);
  writer.add("wide", dtype::i64, {2}, wide);
  writer.add("huge", dtype::u64, {1}, huge);
  writer.write(folder / "f");
  const auto file = weft::tensor_file::read(folder / "f");
  for (const char* name : {"f", "d"})
    for (weft::index i = 0; i < n; ++i) {
      CHECK(weft::to_array<weft::bf16, 1>(file.at(name))(i).bits == b(i).bits);
      CHECK(weft::to_array<weft::fp16, 1>(file.at(name))(i).bits == h(i).bits);
      CHECK(same_bytes(weft::to_array<float, 1>(file.at(name))(i), f(i)));
    }
  for (weft::index i = 0; i < n; ++i) {
    CHECK(same_bytes(weft::to_array<float, 1>(file.at("b"))(i), static_cast<float>(b(i))));
    CHECK(same_bytes(weft::to_array<double, 1>(file.at("h"))(i), static_cast<double>(static_cast<float>(h(i)))));
    CHECK(weft::to_array<weft::fp16, 1>(file.at("b"))(i).bits == weft::fp16(static_cast<float>(b(i))).bits);
  }
  CHECK(weft::to_array<std::int32_t, 1>(file.at("truth"))(0) == 1);
  CHECK(weft::to_array<std::int64_t, 1>(file.at("wide"))(1) == wide[1]);

  const auto narrow = error_of([&] { weft::to_array<std::int32_t, 1>(file.at("wide")); });
  CHECK(narrow.code == weft::errc::value);
  CHECK(narrow.text == "weft: tensor \"wide\": expected values that fit I32, got 1099511627776");
  CHECK(error_of([&] { weft::to_array<std::int64_t, 1>(file.at("huge")); }).code == weft::errc::value);
  const auto rank = error_of([&] { weft::to_array<float, 2>(file.at("f")); });
  CHECK(rank.code == weft::errc::shape);
  CHECK(rank.text == "weft: tensor \"f\": expected 2 dimensions, got [8]");
  const auto mixed = error_of([&] { weft::to_array<float, 1>(file.at("wide")); });
  CHECK(mixed.code == weft::errc::unsupported);
  CHECK(mixed.text == "weft: tensor \"wide\": expected a floating type for F32, got I64");
  CHECK(error_of([&] { weft::to_array<std::int64_t, 1>(file.at("f")); }).code == weft::errc::unsupported);
}

TEST_CASE("The writer refuses what the reader would") {
  const float x = 0;
  weft::tensor_writer writer;
  writer.add("a", dtype::f32, {1}, &x);
  const auto refused = [&](std::string name, std::vector<weft::index> shape, const void* data) {
    return error_of([&] { writer.add(std::move(name), dtype::f32, std::move(shape), data); });
  };
  CHECK(refused("a", {1}, &x).text == "weft: tensor \"a\": the name is given twice");
  for (const char* name : {"", "__metadata__", "tab\t", "\xff"}) CHECK(refused(name, {1}, &x).code == weft::errc::value);
  CHECK(refused("b", {1, -1}, &x).text == "weft: tensor \"b\": a negative extent in [1, -1]");
  CHECK(refused("b", {weft::index{1} << 62, 4}, &x).code == weft::errc::shape);
  CHECK(refused("b", std::vector<weft::index>(33, 1), &x).code == weft::errc::shape);
  CHECK(refused("b", {2}, nullptr).text == "weft: tensor \"b\": expected [2], got no data");
  CHECK(error_of([&] { writer.metadata("k", "\xc3"); }).code == weft::errc::value);
  CHECK(refused("b", {0, 5}, nullptr).text.empty());
}
