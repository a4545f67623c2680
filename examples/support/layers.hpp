// The layers that the programs know, by class name. To teach them another class, add it to the registry in layers_*.cpp.
#pragma once
#include <weft/layer/registry.hpp>

namespace layers {

// Compiled once for float, bf16 and fp16 (layers_float.cpp ...): the engines behind a registry take a while.
template <weft::storage T>
const weft::layer_registry<T>& known();

template <>
const weft::layer_registry<float>& known<float>();
template <>
const weft::layer_registry<weft::bf16>& known<weft::bf16>();
template <>
const weft::layer_registry<weft::fp16>& known<weft::fp16>();

}  // namespace layers
