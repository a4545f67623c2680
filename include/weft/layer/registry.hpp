// Layers by the names of their classes. standard_layers() knows those of this library; a user adds more:
//
//   auto layers = weft::standard_layers<float>();
//   layers.add("MyMixer", [](const auto& parameters, const auto& settings, weft::index layer) { return weft::erase_type(...); });
//   auto layer = layers.make("MyMixer", parameters, settings, 0);
#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "any_layer.hpp"
#include "attention_checkpoints.hpp"
#include "delta_net_checkpoints.hpp"
#include "lfm2_conv.hpp"
#include "lightning_layer.hpp"
#include "mamba2_checkpoints.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
class layer_registry {
 public:
  // Makes the layer with the given number in its model.
  using factory = std::function<any_layer<T>(const parameters<T>&, const settings&, index)>;

  void add(std::string name, factory make) { factories_.insert_or_assign(std::move(name), std::move(make)); }
  // Another name for a class that is there.
  void alias(std::string name, std::string_view known) { add(std::move(name), find(known)); }
  bool knows(std::string_view name) const { return factories_.contains(last_component(name)); }
  // "BambaMixer, FalconH1Mixer, ..."
  std::string names() const {
    std::string list;
    for (const auto& [name, make] : factories_) list += (list.empty() ? "" : ", ") + name;
    return list;
  }

  // `name` may be a path of modules: its last component counts. Throws errc::unsupported for a class that nobody added.
  any_layer<T> make(std::string_view name, const parameters<T>& p, const settings& c, index layer) const { return find(name)(p, c, layer); }

 private:
  static std::string last_component(std::string_view name) { return std::string(name.substr(name.rfind('.') + 1)); }
  const factory& find(std::string_view name) const {
    const auto at = factories_.find(last_component(name));
    if (at == factories_.end()) throw error(errc::unsupported, "weft: class not known: " + last_component(name) + "; expected one of " + names());
    return at->second;
  }

  std::map<std::string, factory, std::less<>> factories_;
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// erase(layer) -> any_layer
template <storage T, class Erase>
layer_registry<T> registry_by(Erase erase) {
  layer_registry<T> r;
  // load(parameters, settings) or load(parameters, settings, layer)
  const auto add = [&](const char* name, auto load) {
    r.add(name, [load, erase](const parameters<T>& p, const settings& c, index layer) {
      if constexpr (requires { load(p, c, layer); }) return erase(load(p, c, layer));
      else return erase(load(p, c));
    });
  };
  add("Qwen3NextGatedDeltaNet", load_qwen3_next_delta_net<T>);
  add("Qwen3_5GatedDeltaNet", load_qwen3_5_delta_net<T>);
  add("OlmoHybridGatedDeltaNet", load_olmo_hybrid_delta_net<T>);
  add("KimiLinearDeltaAttention", load_kimi_delta_net<T>);
  add("Glm5NextTextLinearAttention", load_glm5_delta_net<T>);
  add("BailingHybridDeltaAttention", load_bailing_delta_net<T>);
  add("Mamba2Mixer", load_mamba2<T>);
  add("FalconH1Mixer", load_falcon_h1<T>);
  add("BambaMixer", load_bamba<T>);
  add("NemotronHMamba2Mixer", load_nemotron_h<T>);
  add("MiniMaxLightningAttention", load_minimax_lightning<T>);
  add("Lfm2ShortConv", [](const parameters<T>& p, const settings& c) {
    expect_tensors(p, c.flag_or("conv_bias", false), {"in_proj.bias", "conv.bias", "out_proj.bias"});
    return load_lfm2_conv(p);
  });
  add("LlamaAttention", load_llama_attention<T>);
  add("Qwen3NextAttention", load_qwen3_next_attention<T>);
  add("Gemma2Attention", load_gemma2_attention<T>);
  add("Gemma3Attention", load_gemma3_attention<T>);
  add("GptOssAttention", load_gpt_oss_attention<T>);
  r.alias("GraniteMoeHybridMambaLayer", "BambaMixer");
  r.alias("Lfm3ShortConv", "Lfm2ShortConv");
  r.alias("Qwen3_5Attention", "Qwen3NextAttention");
  return r;
}

}  // namespace detail

template <storage T>
layer_registry<T> standard_layers() {
  return detail::registry_by<T>([](auto l) { return erase_type(std::move(l)); });
}

}  // namespace WEFT_ISA
}  // namespace weft
