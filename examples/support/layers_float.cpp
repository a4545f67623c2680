#include "float_engines.hpp"
#include "layers.hpp"

LAYER_ENGINES(template)

template <>
const weft::layer_registry<float>& layers::known<float>() {
  static const auto all = weft::standard_layers<float>();
  return all;
}
