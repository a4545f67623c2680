// The engines of the recurrent layers, which compute in float whatever their parameters are stored in: compiled once, in
// layers_float.cpp, for all of layers_*.cpp.
#pragma once
#include <weft/backend/cpu/recurrence_scan.hpp>
#include <weft/backend/cpu/recurrence_step.hpp>
#include <weft/recurrence/all.hpp>

#define LAYER_ENGINE(TEMPLATE, MIXER)                                                                                                   \
  TEMPLATE void weft::run_scan(weft::cpu&, const MIXER&, const MIXER::inputs&, MIXER::state_type&, const MIXER::outputs&,               \
                               std::span<const weft::index>);                                                                           \
  TEMPLATE void weft::run_step(weft::cpu&, const MIXER&, const MIXER::inputs&, MIXER::state_type&, const MIXER::outputs&);

#define LAYER_ENGINES(TEMPLATE)                           \
  LAYER_ENGINE(TEMPLATE, weft::gated_delta_rule<float>)   \
  LAYER_ENGINE(TEMPLATE, weft::kda<float>)                \
  LAYER_ENGINE(TEMPLATE, weft::mamba2<float>)             \
  LAYER_ENGINE(TEMPLATE, weft::lightning<float>)

LAYER_ENGINES(extern template)
