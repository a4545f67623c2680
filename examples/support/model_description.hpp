// A byte-level hybrid model from a description: which mixers in which order, and how wide. What `train` makes and `generate` runs.
#pragma once
#include <weft/io/safetensors_writer.hpp>
#include <weft/layer/language_model.hpp>
#include <weft/layer/settings.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hybrid {

using weft::index;

inline constexpr index vocabulary = 256;  // bytes
inline constexpr const char* model_type = "weft_hybrid";

struct description {
  std::vector<std::string> layers;  // names of mixers, the first one first
  index hidden = 64, inner = 192;
  index heads = 4, key_heads = 2, head_dim = 32;  // key_heads: of gdn and of attention
  index window = 64;                              // of swa
  index taps = 4;                                 // of short convolutions
};

// gdn, kda, mamba2, lightning, conv, swa, full, and recurrences by their own names.
std::span<const std::string_view> layer_names();

// Throws weft::error naming the option.
void check(const description& d);
// With the numbers that training starts from. Norms multiply by 1 + weight.
weft::language_model<float> make_model(const description& d, std::uint64_t seed);

// As config.json has it, and back.
std::string config_text(const description& d);
description described(const weft::settings& config);

// Every parameter by name, as views of the model's numbers.
std::vector<weft::named_numbers<float>> parameters_of(weft::language_model<float>& m);
void add_parameters(weft::language_model<float>& m, weft::tensor_writer& writer, const std::string& prefix = {});
// Throws weft::error naming the file and the tensor, before a number is changed.
void load_parameters(weft::language_model<float>& m, const weft::tensor_file& file, const std::string& prefix = {});

}  // namespace hybrid
