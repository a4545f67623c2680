#include "float_engines.hpp"
#include "layers.hpp"

template <>
const weft::layer_registry<weft::bf16>& layers::known<weft::bf16>() {
  static const auto all = weft::standard_layers<weft::bf16>();
  return all;
}
