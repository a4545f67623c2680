#include "golden_case.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "difference.hpp"

namespace golden {
namespace {

std::vector<test_case> read_manifests(const std::filesystem::path& folder) {
  std::vector<test_case> cases;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream in(entry.path());
    const auto manifest = nlohmann::json::parse(in);
    for (const auto& c : manifest.at("cases"))
      cases.push_back({.op = c.at("operator"),
                       .name = c.at("case"),
                       .file = folder / c.at("file").get<std::string>(),
                       .attributes = c.at("attributes").dump(),
                       .inputs = c.at("inputs"),
                       .outputs = c.at("outputs"),
                       .cotangents = c.value("cotangents", std::vector<std::string>{}),
                       .gradients = c.value("gradients", std::vector<std::string>{}),
                       .input_precision = c.at("input_precision"),
                       .output_type = c.at("output_type"),
                       .float32_error = c.at("float32_error")});
  }
  return cases;
}

// Any floating tensor, or one of block numbers, in double.
std::vector<double> values(weft::dtype type, const std::byte* data, std::size_t bytes) {
  std::vector<double> out;
  const auto read = [&](auto t) {
    typename decltype(t)::type x;
    for (std::size_t at = 0; at < bytes; at += sizeof x) {
      std::memcpy(&x, data + at, sizeof x);
      out.push_back(static_cast<double>(x));
    }
  };
  if (type == weft::dtype::i32) read(ops::tag<std::int32_t>{});
  else weft::require(ops::visit_storage(type, read), weft::errc::unsupported, "golden file: expected a floating tensor or I32");
  return out;
}
std::vector<double> values(const weft::tensor& t) { return values(t.type, t.data, static_cast<std::size_t>(t.bytes())); }

}  // namespace

std::vector<test_case> cases_of(std::string_view op) {
  static const std::vector<test_case> all = [] {
    const char* more = std::getenv("WEFT_GOLDEN");
    return read_manifests(more ? std::filesystem::path(more) : std::filesystem::path(WEFT_TEST_DATA) / "golden");
  }();
  std::vector<test_case> some;
  for (const test_case& c : all)
    if (c.op == op) some.push_back(c);
  return some;
}

loaded::loaded(const test_case& c)
    : which(c), file(weft::tensor_file::read(c.file)), attributes(ops::attributes::parse(c.attributes, "attributes")) {
  for (const std::string& name : c.inputs) inputs.emplace(name, file.at(name));
  for (const std::string& name : c.cotangents) inputs.emplace(name, file.at(name));
}

void loaded::store_as(weft::dtype type, bool exact_only) {
  for (auto& [name, t] : inputs) {
    if (t.type != weft::dtype::f32 && t.type != weft::dtype::f64) continue;
    const std::vector<double> from = values(t);
    std::vector<std::byte> to;
    bool exact = true;
    ops::visit_storage(type, [&](auto element) {
      using T = typename decltype(element)::type;
      for (const double x : from) {
        const T y = static_cast<T>(static_cast<weft::accumulate_t<T>>(x));
        exact &= static_cast<double>(y) == x;
        const auto* bytes = reinterpret_cast<const std::byte*>(&y);
        to.insert(to.end(), bytes, bytes + sizeof y);
      }
    });
    if (exact_only && !exact) continue;
    to.resize(std::max<std::size_t>(to.size(), 1));  // no null pointer, also without elements
    converted_.push_back(std::move(to));
    t.type = type;
    t.data = converted_.back().data();
  }
}

difference compare(const ops::result_tensor& got, const weft::tensor& expected) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (got.shape != expected.shape) return {.largest = infinity, .rms_ratio = infinity};
  const std::vector<double> x = values(got.type, got.bytes.data(), got.bytes.size()), y = values(expected);
  difference d{.largest = test::largest_difference(x, y), .largest_value = test::largest(y)};
  double squares = 0, of = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double error = test::difference(x[i], y[i]);
    squares += error * error;
    of += y[i] * y[i];
  }
  d.rms_ratio = squares > 0 ? std::sqrt(squares / of) : 0;
  return d;
}

double bound(const test_case& c, const std::string& tensor, weft::dtype computed, double largest_value) {
  if (computed == weft::dtype::i32) return 0;
  if (computed == weft::dtype::f64) return (c.output_type == "float64" ? 1e-12 : 1.2e-7) * largest_value;
  const auto known = c.float32_error.find(tensor);
  const double floor = known == c.float32_error.end() ? 0 : 4 * known->second;
  return std::max(floor, 16 * static_cast<double>(std::numeric_limits<float>::epsilon()) * largest_value);
}

}  // namespace golden
