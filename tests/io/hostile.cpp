// Files that lie. Each is refused with errc::file and a sentence of its own that names the file.
#include <random>
#include <set>

#include "io/files.hpp"

using files::error_of;
using files::parse;
using files::with_header;

namespace {

struct bad_file {
  std::string bytes, message;
};

std::string repeat(const std::string& s, int n) {
  std::string out;
  while (n-- > 0) out += s;
  return out;
}
// One tensor "a" whose entry is given.
std::string entry(const std::string& e, std::size_t data = 0) { return with_header("{\"a\":" + e + "}", data); }

const std::vector<bad_file>& bad_files() {
  static const std::string ok = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  static const std::vector<bad_file> table{
      // The length.
      {"", "expected 8 bytes of header length, got a file of 0"},
      {"\x02\0\0\0\0\0", "expected 8 bytes of header length, got a file of 1"},
      {files::length_bytes(3) + "{}", "header: expected 3 bytes, the file has 2"},
      {files::length_bytes(100'000'001) + "{}", "header: expected at most 100000000 bytes, got 100000001"},
      {files::length_bytes(std::uint64_t{1} << 63) + "{}", "header: expected at most 100000000 bytes, got 9223372036854775808"},
      {files::length_bytes(~std::uint64_t{0}) + "{}", "header: expected at most 100000000 bytes, got 18446744073709551615"},
      // The text.
      {with_header(""), "header: expected to start with '{'"},
      {with_header("{\"\xff\":" + ok + "}", 4), "header: expected UTF-8, got another byte at 2"},
      {with_header("{ \"\xc0\xaf\":" + ok + "}", 4), "header: expected UTF-8, got another byte at 3"},
      {with_header("{  \"\xed\xa0\x80\":" + ok + "}", 4), "header: expected UTF-8, got another byte at 4"},
      {with_header("{   \"\xf4\x90\x80\x80\":" + ok + "}", 4), "header: expected UTF-8, got another byte at 5"},
      {with_header("{    \"a\xe2\x82"), "header: expected UTF-8, got another byte at 7"},
      {with_header("[]"), "header: expected to start with '{'"},
      {with_header(repeat("[", 100'000)), "header: expected to start with '{'"},
      {with_header("{\"a\":" + repeat("[", 100'000)), "expected an object, got \"[\" at byte 5"},
      {with_header(repeat("{\"a\":", 100'000)), "tensor \"a\": expected dtype, shape and data_offsets, got \"a\""},
      {entry(R"({"shape":)" + repeat("[", 100'000)), "expected a non-negative integer, got \"[\" at byte 15"},
      {with_header(R"({"__metadata__":{"k":)" + repeat("[", 100'000)), "expected a string, got \"[\" at byte 21"},
      {with_header(" {}"), "header: expected to start with '{'"},
      {with_header("{"), "expected a string, got its end at byte 1"},
      {with_header("{}x"), "expected spaces to the end of the header, got \"x\" at byte 2"},
      {with_header("{}\n"), "expected spaces to the end of the header, got \"\\x0a\" at byte 2"},
      {with_header(std::string("{}\0", 3)), "expected spaces to the end of the header, got \"\\x00\" at byte 2"},
      {with_header("{\"a\"}"), "expected ':' after a key, got \"}\" at byte 4"},
      {with_header("{a:1}"), "expected a string, got \"a\" at byte 1"},
      {with_header("{\"a"), "expected the end of a string, got its end at byte 3"},
      {with_header("{\"a\\"), "expected the end of an escape, got its end at byte 4"},
      {with_header("{\"\\q\":1}"), "expected an escape of JSON, got \"q\" at byte 3"},
      {with_header("{\"\\u12x4\":1}"), "expected four hexadecimal digits, got \"x\" at byte 6"},
      {with_header("{\"\\ud800\":1}"), "expected a pair of surrogates, got \"\"\" at byte 8"},
      {with_header("{\"\\udc00\":1}"), "expected a pair of surrogates"},
      {with_header("{\"\\ud800\\u0041\":1}"), "expected a pair of surrogates, got \"\"\" at byte 14"},
      {with_header("{\"a\nb\":1}"), "expected no control character in a string, got \"\\x0a\" at byte 3"},
      {with_header("{\"a\":" + ok + ",}", 4), "expected a string, got \"}\" at byte 54"},
      {with_header("{\"a\":" + ok, 4), "expected ',' or '}', got its end at byte 53"},
      {with_header("{\"a\":null}"), "expected an object, got \"n\" at byte 5"},
      // The metadata.
      {with_header(R"({"__metadata__":{"k":1}})"), "expected a string, got \"1\" at byte 21"},
      {with_header(R"({"__metadata__":null})"), "expected an object, got \"n\" at byte 16"},
      {with_header(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__ is given twice"},
      {with_header(R"({"__metadata__":{"k":"1","k":"2"}})"), "metadata: the key \"k\" is given twice"},
      // The names.
      {with_header("{\"\":" + ok + "}", 4), "tensor \"\": expected a name of printable characters"},
      {with_header("{\"a\\u0000b\":" + ok + "}", 4), "tensor \"a\\x00b\": expected a name of printable characters"},
      {with_header("{\"a\\u001b[2J\":" + ok + "}", 4), "tensor \"a\\x1b[2J\": expected a name of printable characters"},
      {with_header("{\"\xc2\x85\":" + ok + "}", 4), "tensor \"\\xc2\\x85\": expected a name of printable characters"},
      {with_header("{\"a\\u202eb\":" + ok + "}", 4), "tensor \"a\\xe2\\x80\\xaeb\": expected a name of printable characters"},
      {with_header("{\"a\":" + ok + ",\"a\":" + ok + "}", 4), "tensor \"a\": the name is given twice"},
      {with_header("{\"b\":" + ok + R"(,"\u0062":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), "tensor \"b\": the name is given twice"},
      // The entries.
      {entry("{}"), "tensor \"a\": dtype is missing"},
      {entry(R"({"dtype":"F32","data_offsets":[0,0]})"), "tensor \"a\": shape is missing"},
      {entry(R"({"dtype":"F32","shape":[0]})"), "tensor \"a\": data_offsets is missing"},
      {entry(R"({"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]})"), "tensor \"a\": dtype is given twice"},
      {entry(R"({"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]})"), "tensor \"a\": shape is given twice"},
      {entry(R"({"dtype":"F32","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]})"), "tensor \"a\": data_offsets is given twice"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]})", 4), "data_offsets, got \"strides\""},
      {entry(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})", 4), "tensor \"a\": dtype \"F33\" is not known"},
      {entry(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})", 4), "tensor \"a\": dtype \"f32\" is not known"},
      {entry(R"({"dtype":0,"shape":[1],"data_offsets":[0,4]})", 4), "expected a string, got \"0\" at byte 14"},
      {entry(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4), "expected an array, got \"1\" at byte 28"},
      {entry(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), "expected a non-negative integer, got \"-\" at byte 29"},
      {entry(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4), "expected an integer, got \".\" at byte 30"},
      {entry(R"({"dtype":"F32","shape":[1e0],"data_offsets":[0,4]})", 4), "expected an integer, got \"e\" at byte 30"},
      {entry(R"({"dtype":"F32","shape":[01],"data_offsets":[0,4]})", 4), "expected an integer without leading zeros, got \"]\" at byte 31"},
      {entry(R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})", 4), "expected a non-negative integer, got \"\"\" at byte 29"},
      {entry(R"({"dtype":"F32","shape":[1,],"data_offsets":[0,4]})", 4), "expected a non-negative integer, got \"]\" at byte 31"},
      {entry(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]})", 4), "expected an integer below 2^63, got \"8\" at byte 47"},
      {entry(R"({"dtype":"F32","shape":[)" + repeat("1,", 32) + R"(1],"data_offsets":[0,4]})", 4), "shape: expected at most 32 dimensions"},
      // Shapes and offsets.
      {entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"), "shape [4294967296, 4294967296] exceeds the address space"},
      {entry(R"({"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]})", 16), "shape [4611686018427387905, 4] exceeds the address space"},
      {entry(R"({"dtype":"I64","shape":[4611686018427387904,2,0],"data_offsets":[0,0]})"), "shape [4611686018427387904, 2, 0] exceeds the address space"},
      {entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), "expected 8 bytes for F32 [2], got data_offsets [0, 4]"},
      {entry(R"({"dtype":"F16","shape":[1],"data_offsets":[0,4]})", 4), "expected 2 bytes for F16 [1], got data_offsets [0, 4]"},
      {entry(R"({"dtype":"F32","shape":[],"data_offsets":[0,0]})"), "expected 4 bytes for F32 [], got data_offsets [0, 0]"},
      {entry(R"({"dtype":"F32","shape":[0],"data_offsets":[0,4]})", 4), "expected 0 bytes for F32 [0], got data_offsets [0, 4]"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4), "data_offsets: expected a begin up to the end, got [4, 0]"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 4), "data_offsets: expected two numbers, got 1"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[]})", 4), "data_offsets: expected two numbers, got 0"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})", 4), "data_offsets: expected two numbers, got more"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 3), "expected data within 3 bytes, got data_offsets [0, 4]"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5), "expected the tensors to cover 5 bytes of data, got 4"},
      {with_header("{}", 1), "expected the tensors to cover 1 bytes of data, got 0"},
      {entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8), "tensor \"a\": expected data from byte 0, got 4 with a hole before it"},
      {with_header("{\"a\":" + ok + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})", 12),
       "tensor \"b\": expected data from byte 4, got 8 with a hole before it"},
      {with_header("{\"a\":" + ok + ",\"b\":" + ok + "}", 4), "expected data from byte 4, got 0, inside another tensor"},
      {with_header("{\"a\":" + ok + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", 6),
       "tensor \"b\": expected data from byte 4, got 2, inside another tensor"},
      {with_header("{\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]},\"a\":" + ok + "}", 4),
       "tensor \"b\": expected data from byte 4, got 2, inside another tensor"},
  };
  return table;
}

std::string good_file() {
  return with_header(R"({"__metadata__":{"k":"v\n\u00e9\ud83d\ude00"},"b":{"dtype":"I64","shape":[1,0],"data_offsets":[6,6]},)"
                     R"("a":{"data_offsets":[2,6],"shape":[1,1],"dtype":"F32"},"c":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}   )",
                     6);
}

}  // namespace

TEST_CASE("Every lie of a file is refused by its own sentence") {
  files::temporary_folder folder;
  std::set<std::string> headlines;
  for (const auto& [bytes, message] : bad_files()) {
    CAPTURE(message);
    std::string content = bytes;
    if (message.ends_with("a file of 1")) content.resize(1);
    const auto parsed = error_of([&] { parse(content); });
    CHECK(parsed.code == weft::errc::file);
    CHECK(parsed.text.starts_with("weft: f.safetensors: "));
    CAPTURE(parsed.text);
    CHECK(parsed.text.find(message) != std::string::npos);
    files::spit(folder / "f.safetensors", content);
    const auto read = error_of([&] { weft::tensor_file::read(folder / "f.safetensors"); });
    CHECK(read.text == "weft: " + (folder / "f.safetensors").string() + parsed.text.substr(19));
    headlines.insert(message);
  }
  CHECK(headlines.size() >= 80);
}

TEST_CASE("A file cut anywhere, or longer by a byte, is refused") {
  const std::string good = good_file();
  REQUIRE(parse(good).tensors().size() == 3);
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(error_of([&] { parse(good.substr(0, n)); }).code == weft::errc::file);
  CHECK(error_of([&] { parse(good + '\0'); }).code == weft::errc::file);
}

TEST_CASE("Whatever bytes change, a file is refused or every tensor lies within it") {
  const std::string good = good_file();
  std::mt19937 random(7);
  int refused = 0, accepted = 0;
  const std::string likely = "{}[]\":,0189 -\\ue.";
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % 4 ? 8 + random() % (bytes.size() - 8) : random() % bytes.size();
      const char c = random() % 2 ? likely[random() % likely.size()] : static_cast<char>(random() % 256);
      if (random() % 3 == 0) bytes.insert(at, 1, c);
      else if (random() % 3 == 0) bytes.erase(at, 1);
      else bytes[at] = c;
    }
    if (random() % 2) {  // the length stays true, so that the header is reached
      const std::string rest = bytes.substr(std::min<std::size_t>(8, bytes.size()));
      bytes = files::length_bytes(rest.size() < 6 ? 0 : rest.size() - 6) + rest;
    }
    const auto e = error_of([&] {
      const auto file = parse(bytes);
      ++accepted;
      unsigned sum = 0;
      for (const auto& t : file.tensors())
        for (weft::index i = 0; i < t.bytes(); ++i) sum += std::to_integer<unsigned>(t.data[i]);
      CHECK(sum <= 255u * bytes.size());
    });
    if (!e.text.empty()) {
      ++refused;
      CHECK(e.code == weft::errc::file);
    }
  }
  CHECK(refused > 10'000);
  CHECK(accepted > 100);
}

TEST_CASE("What is no regular file is refused") {
  files::temporary_folder folder;
  CHECK(error_of([&] { weft::tensor_file::read(folder / "none"); }).text.ends_with("none: expected a file, found none"));
  CHECK(error_of([&] { weft::tensor_file::read(folder.path); }).text.ends_with(": expected a regular file"));
  CHECK(error_of([&] { weft::tensor_file::read("/dev/null"); }).text == "weft: /dev/null: expected a regular file");
}

TEST_CASE("A name of any length is cut in messages") {
  const auto e = error_of([] { parse(with_header("{\"" + std::string(1'000'000, 'n') + "\":{}}")); });
  CHECK(e.text.size() < 200);
}

TEST_CASE("A number is read as JSON spells it, or refused") {
  const auto read = [](const std::string& text) {
    weft::io::json_reader json(text, "text");
    const double x = json.number();
    json.end();
    return x;
  };
  const std::pair<const char*, double> good[] = {{"0", 0.0}, {" -12.5 ", -12.5}, {"0.25e+2", 25.0}, {"1E-3", 1e-3}, {"1e308", 1e308}};
  for (const auto& [text, x] : good) CHECK(read(text) == x);
  for (const char* text : {"", "-", "+1", "01", ".5", "1.", "1e", "1e+", "0x10", "NaN", "Infinity", "1.5.2", "--1", "1e999", "-1e999", "1e-999"}) {
    CAPTURE(text);
    CHECK(error_of([&] { read(text); }).code == weft::errc::file);
  }
  CHECK(error_of([&] { read("1" + std::string(400, '0')); }).text == "weft: text: header: expected a number that a double holds, got \"1\" at byte 0");
}
