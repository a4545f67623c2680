// Golden cases: manifests, files, and the bounds that results are held to.
#pragma once
#include <weft/io/safetensors.hpp>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/operators.hpp"

namespace golden {

using weft::index;

struct test_case {
  std::string op, name;
  std::filesystem::path file;
  std::string attributes;                       // JSON
  std::vector<std::string> inputs, outputs, cotangents, gradients;
  std::string input_precision, output_type;     // bf16, f32, f64; float64 or float32
  std::map<std::string, double> float32_error;  // of a plain recurrence in float, per tensor
};

// The cases of one operator: those in the repository, or all of the folder that WEFT_GOLDEN names.
std::vector<test_case> cases_of(std::string_view op);

// A test case in memory, its inputs in any storage type.
struct loaded {
  explicit loaded(const test_case& c);

  // F32 and F64 tensors as `type`. With `exact_only`, tensors that lose digits by it stay as they are.
  void store_as(weft::dtype type, bool exact_only = false);

  const test_case& which;
  weft::tensor_file file;
  ops::attributes attributes;
  ops::tensor_map inputs;

 private:
  std::vector<std::vector<std::byte>> converted_;
};

// How far a result is from the stored one.
struct difference {
  double largest = 0;        // |got - expected|; infinite where one of them is not a number and the other is
  double rms_ratio = 0;      // of the difference to the expected
  double largest_value = 0;  // |expected|
};
difference compare(const ops::result_tensor& got, const weft::tensor& expected);

// The largest error allowed to a result in float or double.
double bound(const test_case& c, const std::string& tensor, weft::dtype computed, double largest_value);

}  // namespace golden
