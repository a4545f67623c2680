// Attributes beyond the golden ones reach their operators; what they mean is the engines' tests' business.
#include <cmath>

#include "difference.hpp"
#include "golden_run.hpp"

namespace {

// An operator on the inputs of a golden case of perhaps another one.
struct inputs_of {
  golden::test_case which;
  golden::loaded in;

  inputs_of(std::string_view op, std::string_view name) : which(find(op, name)), in(which) {}

  std::vector<float> run(std::string_view op, std::string_view attributes, const std::string& output = "o") const {
    weft::cpu cpu;
    const auto options = ops::attributes::parse(attributes, "--attrs");
    const ops::results r = ops::run(ops::find_operator(op), in.inputs, options, ops::mode::scan, cpu);
    const ops::result_tensor& t = r.outputs.at(output);
    std::vector<float> values(t.bytes.size() / sizeof(float));
    std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
    return values;
  }

  static golden::test_case find(std::string_view op, std::string_view name) {
    for (const auto& c : golden::cases_of(op))
      if (c.name == name) return c;
    throw std::runtime_error("no such golden case");
  }
};

using test::largest_difference;

// Not by a NaN.
bool differ(const std::vector<float>& a, const std::vector<float>& b) {
  const double d = largest_difference(a, b);
  return d > 1e-3 && std::isfinite(d);
}

}  // namespace

TEST_CASE("kept, softcap and causal reach attention") {
  const inputs_of x("sliding_window_attention", "t75_w16_sink");
  const auto full = x.run("softmax_attention", "{}");
  CHECK(differ(x.run("sliding_window_attention", R"({"window": 16})"), full));
  CHECK(largest_difference(x.run("sliding_window_attention", "{}"), full) <= 1e-5);  // a window of 0 is none
  CHECK(largest_difference(x.run("sliding_window_attention", R"({"window": 1, "kept": 75})"), full) <= 1e-5);
  CHECK(largest_difference(x.run("softmax_attention", R"({"softcap": 1e5})"), full) <= 1e-4);
  CHECK(differ(x.run("softmax_attention", R"({"softcap": 0.5})"), full));
  const auto both_ways = x.run("softmax_attention", R"({"causal": false})");
  const std::size_t row = full.size() / 75;
  const auto last = [&](const std::vector<float>& o) { return std::vector<float>(o.end() - static_cast<std::ptrdiff_t>(row), o.end()); };
  CHECK(differ(both_ways, full));
  CHECK(largest_difference(last(both_ways), last(full)) <= 1e-5);  // the last query sees every key either way
}

TEST_CASE("feature_map reaches linear attention") {
  inputs_of x("linear_attention_normalised", "t37_no_h0_f64");
  x.in.store_as(weft::dtype::f32);
  const auto plain = x.run("linear_attention", "{}");
  CHECK(largest_difference(x.run("linear_attention", R"({"feature_map": "identity"})"), plain) == 0);
  CHECK(differ(x.run("linear_attention", R"({"feature_map": "relu"})"), plain));
  CHECK(differ(x.run("linear_attention", R"({"feature_map": "elu1"})"), plain));
  CHECK(largest_difference(x.run("linear_attention_normalised", "{}"), x.run("linear_attention_normalised", R"({"feature_map": "elu1"})")) == 0);
}

TEST_CASE("either end of Mamba-2's clamp acts by itself") {
  const inputs_of x("mamba2", "t64_no_h0");
  const auto free = x.run("mamba2", R"({"dt_softplus": true})", "ht");
  CHECK(largest_difference(x.run("mamba2", R"({"dt_softplus": true, "dt_max": 0})", "ht"), std::vector<float>(free.size())) == 0);  // no step, no write
  CHECK(differ(x.run("mamba2", R"({"dt_softplus": true, "dt_min": 2})", "ht"), free));
}
