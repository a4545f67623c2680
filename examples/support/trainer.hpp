// Trains a byte-level hybrid model on a text, with checkpoints that it goes on from as if it had never stopped.
#pragma once
#include <weft/tune/adam.hpp>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model_description.hpp"

namespace hybrid {

struct training {
  index steps = 2600, batch = 4, length = 256;  // sequences a step, bytes a sequence
  double rate = 4e-3, last = 0.02;              // at its peak, and at the end as a part of it: a cosine
  index warm_up = 40;
  double decay = 0.01, beta2 = 0.98, clip = 1.0;
  std::uint64_t seed = 1;  // of the weights and of the places in the text
};

// Every step draws its places in the text from the seed and its number alone, so that a run that goes on draws the same.
class trainer {
 public:
  // The text outlives this object. Throws weft::error for a text of fewer than two bytes and for options out of range.
  trainer(const description& d, const training& how, std::span<const unsigned char> text);
  trainer(const trainer&) = delete;

  index done() const { return adam_.steps(); }
  index bytes_a_step() const { return how_.batch * length_; }
  index parameters() const;
  weft::language_model<float>& model() { return model_; }

  // One step; returns the bits a byte of its batch before it. Throws errc::value naming the first tensor with a gradient that is not
  // finite, and the step; the weights are then those of the step before.
  double step(weft::cpu& cpu);

  // Weights, moments and all that must be the same for a run that goes on; the file is replaced whole or not at all.
  void save(const std::filesystem::path& file);
  // Throws weft::error naming what the file lacks, or in what its run was another; nothing is changed then.
  void resume(const std::filesystem::path& file);

 private:
  std::vector<std::pair<std::string, std::string>> run() const;

  description shape_;
  training how_;
  std::span<const unsigned char> text_;
  index length_;
  weft::language_model<float> model_;
  weft::language_gradients<float> gradients_;
  std::vector<weft::trained<float>> list_;
  weft::adam<float> adam_;
  weft::language_tape<float> tape_;
};

}  // namespace hybrid
