// A byte-level hybrid language model: an embedding, layers of a mixer and a gated feed-forward block, each behind a norm
// and around a residual, and a head.
//
//   h <- h + mixer(rms(h)),  h <- h + W_down (silu(W_gate n) W_up n) with n = rms(h),  logits = W_head rms(h)
#pragma once
#include <weft/layer/language_model.hpp>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model_description.hpp"

namespace hybrid {

// What all layers keep of the bytes seen, and what the model says next. A value, like every state.
struct model_state {
  std::vector<weft::any_state> layers;
  index seen = 0;
  std::vector<float> logits;  // [256] after the last byte; empty before the first
};

// Bits a byte of a text in windows that each start from an empty state; a window's first byte is given, not predicted.
double bits_per_byte(weft::cpu& cpu, const weft::language_model<float>& m, std::span<const unsigned char> text, index window = 1024);

class model {
 public:
  // Reads config.json and model.safetensors below `directory`: of a published Qwen3-Next, or of `train`. Throws weft::error naming the file, the tensor or the setting.
  explicit model(const std::filesystem::path& directory);

  const weft::language_model<float>& weights() const { return weights_; }
  // Before the first byte.
  model_state state() const;
  // Makes room for so many bytes more: before feed.
  void make_room(model_state& state, index bytes) const;
  // Folds the bytes into the state. Throws weft::error.
  void feed(weft::cpu& cpu, std::span<const unsigned char> bytes, model_state& state) const;

  // The whole state in one file. Throws errc::file.
  void save(const model_state& state, const std::filesystem::path& file) const;
  // Throws errc::file, missing, unsupported or shape for a file that holds no state of this model.
  model_state restore(const std::filesystem::path& file) const;

 private:
  std::string fingerprint_;  // of the parameters: what tells one model's states from another's
  weft::language_model<float> weights_;
};

}  // namespace hybrid
