// The layers of this library by the names of their classes, with gradients.
#pragma once
#include "any_layer_vjp.hpp"
#include "attention_layer_vjp.hpp"
#include "delta_net_vjp.hpp"
#include "lfm2_conv_vjp.hpp"
#include "lightning_layer_vjp.hpp"
#include "mamba2_layer_vjp.hpp"
#include "registry.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Of float or double.
template <storage T>
layer_registry<T> trainable_layers() {
  return detail::registry_by<T>([](auto l) { return erase_with_gradients(std::move(l)); });
}

}  // namespace WEFT_ISA
}  // namespace weft
