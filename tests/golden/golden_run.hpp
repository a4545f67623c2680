// Runs golden cases of one operator and holds the results to the bounds.
#pragma once
#include "catch.hpp"
#include "golden_case.hpp"

namespace golden {

inline std::string_view mode_name(ops::mode m) {
  constexpr std::string_view names[] = {"scan", "literal", "step", "split"};
  return names[static_cast<std::size_t>(m)];
}

inline ops::results run(const loaded& c, ops::mode how, bool on_device = false) {
  weft::cpu cpu;
  return ops::run(ops::find_operator(c.which.op), c.inputs, c.attributes, how, cpu, false, on_device);
}

// `computed`: the type of sums and outputs. A `ratio` above 0 replaces the bounds by one on the relative RMS error.
inline void check(const loaded& c, ops::mode how, weft::dtype computed, double ratio = 0, bool on_device = false) {
  CAPTURE(c.which.file.filename().string(), mode_name(how));
  const ops::results got = run(c, how, on_device);
  for (const std::string& name : c.which.outputs) {
    CAPTURE(name);
    REQUIRE(got.outputs.count(name) == 1);
    const ops::result_tensor& tensor = got.outputs.at(name);
    const difference d = compare(tensor, c.file.at(name));
    const weft::dtype type = c.file.at(name).type == weft::dtype::i32 ? weft::dtype::i32 : computed;
    CHECK(tensor.type == type);
    if (ratio > 0) CHECK(d.rms_ratio <= ratio);
    else CHECK(d.largest <= (on_device ? 2 : 1) * bound(c.which, name, type, d.largest_value));
  }
  CHECK(got.outputs.size() == c.which.outputs.size());
}

// Gradients of every case that has them, in the type of its file and in double: four times the bounds of results.
inline void check_gradients(std::string_view op) {
  CAPTURE(op);
  int held = 0;
  for (const test_case& which : cases_of(op)) {
    if (which.gradients.empty()) continue;
    loaded c(which);
    CAPTURE(which.file.filename().string());
    for (const bool wide : {false, true}) {
      if (wide) c.store_as(weft::dtype::f64);
      const weft::dtype computed = wide || which.input_precision == "f64" ? weft::dtype::f64 : weft::dtype::f32;
      weft::cpu cpu;
      const ops::results got = ops::run(ops::find_operator(op), c.inputs, c.attributes, ops::mode::scan, cpu, true);
      for (const std::string& name : which.gradients) {
        CAPTURE(name);
        REQUIRE(got.outputs.count(name) == 1);
        const difference d = compare(got.outputs.at(name), c.file.at(name));
        CHECK(got.outputs.at(name).type == computed);
        CHECK(d.largest <= 4 * bound(which, name, computed, d.largest_value));
        ++held;
      }
    }
  }
  CHECK(held > 0);
}

// Every case in the type of its file and in double, in every mode that means something.
inline void check_operator(std::string_view op) {
  const auto cases = cases_of(op);
  CAPTURE(op);
  REQUIRE(!cases.empty());
  std::vector<ops::mode> modes{ops::mode::scan};
  if (ops::find_operator(op).has_state) modes = {ops::mode::literal, ops::mode::scan, ops::mode::step, ops::mode::split};
  for (const test_case& which : cases) {
    loaded c(which);
    const weft::dtype own = which.input_precision == "f64" ? weft::dtype::f64 : weft::dtype::f32;
    for (const ops::mode how : modes) check(c, how, own);
    if (own == weft::dtype::f64) continue;
    c.store_as(weft::dtype::f64);
    for (const ops::mode how : modes) check(c, how, weft::dtype::f64);
  }
}

// 16-bit storage. Inputs that it holds exactly lose nothing: sums and outputs are float, so the bounds of float stand.
// Cases whose inputs it rounds are held to the rounding, by RMS.
inline void check_16_bit(std::string_view op, bool parameters_in_storage = false) {
  for (const test_case& which : cases_of(op)) {
    if (which.input_precision != "bf16") continue;
    for (const weft::dtype type : {weft::dtype::bf16, weft::dtype::f16}) {
      loaded c(which);
      c.store_as(type, true);
      CAPTURE(weft::dtype_name(type));
      if (c.inputs.at(std::string(ops::find_operator(op).main_input)).type != type) continue;
      check(c, ops::mode::scan, weft::dtype::f32, parameters_in_storage ? 0.005 : 0.0);
    }
  }
}

}  // namespace golden
