// Recurrences without a published layer of their own, by name: each in the layer of policy_layer.hpp.
#pragma once
#include <weft/layer/any_layer.hpp>

#include <string_view>

#include "first_numbers.hpp"

namespace hybrid {

// linear_attention, simple_gla, gla, hgrn2, delta_rule or gdn2. Throws errc::unsupported for another name.
weft::any_layer<float> make_policy_layer(std::string_view name, index hidden, index heads, index head_dim, first_numbers& s);

}  // namespace hybrid
