// The operators that run_op, the tests and the benches call by name.
#pragma once
#include <weft/core/executor.hpp>

#include <span>
#include <stdexcept>

#include "attributes.hpp"
#include "tensor.hpp"

namespace ops {

enum class mode {
  scan,     // one call
  literal,  // the token form
  step,     // one token a call
  split,    // three calls, cut at T/3 and T/2 + 1, the state carried
};

// Throws errc::unsupported for a word that names none.
mode parse_mode(std::string_view word);

// A request that is understood and means nothing for this operator.
class no_meaning : public std::runtime_error {
  using runtime_error::runtime_error;
};

struct call {
  tensor_reader in;
  const attributes& options;
  ops::mode mode = ops::mode::scan;
  weft::cpu& cpu;
  bool gradients = false;  // of the inputs too (dq, ..., dh0), for the cotangents among the tensors (do, ..., dht; absent: zero)
  bool* on_device = nullptr;  // a GPU is to run the verbs; set where one did
};

struct results {
  result_map outputs;                 // in the computing type
  std::vector<std::string> warnings;  // suspicious values, computed as written
};

struct op {
  std::string_view name;
  std::string_view main_input;  // its dtype decides in which type is computed
  std::vector<std::string_view> options;
  bool has_state = true;        // without one only scan means something
  bool has_gradients = false;
  results (*run)(const call&) = nullptr;
};

// All of them, by name.
std::span<const op> all_operators();

// Throws errc::unsupported where no operator has this name.
const op& find_operator(std::string_view name);

// Checks the request, runs it and returns the outputs. Throws weft::error for bad input, no_meaning for an empty request.
results run(const op& which, const tensor_map& tensors, const attributes& options, mode how, weft::cpu& cpu, bool gradients = false, bool on_device = false);

// Gradients of 16-bit tensors are those of the same numbers in float: the engines' sums are in float anyway.
template <class T>
inline constexpr bool with_gradients = std::is_same_v<T, weft::accumulate_t<T>>;

// f(tag<T>) with the storage type that the main input has; for gradients with the accumulating type.
template <class F>
results with_storage(const call& c, std::string_view main_input, F&& f) {
  results out;
  const weft::dtype type = c.in.get(main_input).type;
  const auto run = [&](auto t) {
    using T = typename decltype(t)::type;
    if constexpr (!with_gradients<T>)
      if (c.gradients) return void(out = f(tag<weft::accumulate_t<T>>{}));
    out = f(t);
  };
  if (!visit_storage(type, run))
    weft::fail(weft::errc::unsupported, main_input, ": expected F32, F64, BF16 or F16, got ", weft::dtype_name(type));
  return out;
}

// The tables of the families, each in a file of its own.
std::vector<op> linear_operators();
std::vector<op> gated_operators();
std::vector<op> delta_operators();
std::vector<op> low_rank_operators();
std::vector<op> attention_operators();
std::vector<op> hybrid_operators();
std::vector<op> layer_operators();

}  // namespace ops
