#include "float_engines.hpp"
#include "layers.hpp"

template <>
const weft::layer_registry<weft::fp16>& layers::known<weft::fp16>() {
  static const auto all = weft::standard_layers<weft::fp16>();
  return all;
}
