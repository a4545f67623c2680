#include "policy_layers.hpp"

#include <weft/recurrence/all.hpp>

#include "policy_layer.hpp"

namespace hybrid {
namespace {

template <class Policy>
weft::any_layer<float> make(index hidden, index heads, index head_dim, first_numbers& s) {
  policy_layer<Policy> l{.heads = heads, .head_dim = head_dim};
  const auto projection = [&](source from, weft::projection<float>& p) {
    if (const index n = channels<Policy>(from, heads, head_dim); n > 0) p = s.linear(n, hidden);
  };
  projection(source::plain, l.plain);
  projection(source::gates, l.gates);
  projection(source::decay, l.a);
  if (!l.a.weight.null()) l.decay = weft::decay_gate<float>::make(s.log_rates(heads), s.step_biases(l.a.outputs()));
  l.z = s.linear(heads * head_dim, hidden);
  l.norm = constant(head_dim, 1);
  l.out = s.linear(hidden, heads * head_dim);
  return weft::erase_with_gradients(std::move(l));
}

}  // namespace

weft::any_layer<float> make_policy_layer(std::string_view name, index hidden, index heads, index head_dim, first_numbers& s) {
  const auto of = [&]<class Policy>() { return make<Policy>(hidden, heads, head_dim, s); };
  if (name == "linear_attention") return of.operator()<weft::linear_attention_policy<false>>();
  if (name == "simple_gla") return of.operator()<weft::simple_gla_policy>();
  if (name == "gla") return of.operator()<weft::gla_policy>();
  if (name == "hgrn2") return of.operator()<weft::hgrn2_policy>();
  if (name == "delta_rule") return of.operator()<weft::delta_policy>();
  if (name == "gdn2") return of.operator()<weft::gdn2_policy>();
  weft::fail(weft::errc::unsupported, "layers: expected a recurrence that is made by its policy alone, got ", name);
}

}  // namespace hybrid
