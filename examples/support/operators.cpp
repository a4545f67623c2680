#include "operators.hpp"

#include <algorithm>

#include "device.hpp"

namespace ops {

mode parse_mode(std::string_view word) {
  if (word == "scan") return mode::scan;
  if (word == "literal") return mode::literal;
  if (word == "step") return mode::step;
  if (word == "split") return mode::split;
  weft::fail(weft::errc::unsupported, "--mode: expected literal, scan, step or split, got ", weft::io::quoted(word));
}

std::span<const op> all_operators() {
  static const std::vector<op> all = [] {
    std::vector<op> list;
    for (auto family : {linear_operators, gated_operators, delta_operators, low_rank_operators, attention_operators, hybrid_operators, layer_operators}) {
      auto rows = family();
      std::move(rows.begin(), rows.end(), std::back_inserter(list));
    }
    return list;
  }();
  return all;
}

const op& find_operator(std::string_view name) {
  const auto all = all_operators();
  const auto at = std::find_if(all.begin(), all.end(), [&](const op& o) { return o.name == name; });
  if (at != all.end()) return *at;
  std::string known;
  for (const op& o : all) known += (known.empty() ? "" : ", ") + std::string(o.name);
  weft::fail(weft::errc::unsupported, "operator not known: expected one of ", known, ", got ", weft::io::quoted(name));
}

results run(const op& which, const tensor_map& tensors, const attributes& options, mode how, weft::cpu& cpu, bool gradients, bool on_device) {
  options.refuse_unknown(which.name, which.options);
  if (how != mode::scan && !which.has_state)
    throw no_meaning("weft: --mode: " + std::string(which.name) + " carries no state from token to token, so only scan means something");
  if (gradients && !which.has_gradients) throw no_meaning("weft: --grad: " + std::string(which.name) + " has no gradients");
  if (gradients && how != mode::scan) throw no_meaning("weft: --grad: gradients are those of one call, so only --mode scan has them");
  if (!on_device) return which.run({tensor_reader(tensors), options, how, cpu, gradients});
  if (gradients) throw no_meaning("weft: --grad: gradients run on the CPU");
  if (how == mode::literal) throw no_meaning("weft: --mode: the literal form runs on the CPU");
  require_device();
  bool ran = false;
  results r = which.run({tensor_reader(tensors), options, how, cpu, gradients, &ran});
  if (!ran) throw no_meaning("weft: --device cuda: " + std::string(which.name) + " runs on the CPU alone");
  return r;
}

}  // namespace ops
