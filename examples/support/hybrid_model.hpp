// A byte-level hybrid language model: an embedding, layers of a mixer and a gated feed-forward block, each behind a norm
// and around a residual, and a head.
//
//   h <- h + mixer(rms(h)),  h <- h + W_down (silu(W_gate n) W_up n) with n = rms(h),  logits = W_head rms(h)
#pragma once
#include <weft/layer/any_layer.hpp>
#include <weft/layer/projection.hpp>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace hybrid {

using weft::index;

inline constexpr index vocabulary = 256;  // bytes

// What all layers keep of the bytes seen, and what the model says next. A value, like every state.
struct model_state {
  std::vector<weft::any_state> layers;
  index seen = 0;
  std::vector<float> logits;  // [256] after the last byte; empty before the first
};

class model {
 public:
  // Reads config.json and model.safetensors below `directory`. Throws weft::error naming the file, the tensor or the setting.
  explicit model(const std::filesystem::path& directory);

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
  struct block {
    weft::any_layer<float> mixer;
    weft::array<float, 1> mixer_norm{}, mlp_norm{};
    weft::projection<float> gate{}, up{}, down{};
  };

  index hidden_ = 0;
  double eps_ = 1e-6;
  std::string fingerprint_;  // of the parameters: what tells one model's states from another's
  weft::array<float, 2> embedding_;
  std::vector<block> blocks_;
  weft::array<float, 1> norm_;
  weft::projection<float> head_;
};

}  // namespace hybrid
