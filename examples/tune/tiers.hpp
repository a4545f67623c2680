// The tiers of tune_s0.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiment.hpp"

namespace s0 {

struct effort {
  bool quick = false;  // fewer seeds, rates and steps: for a test of everything
  int threads = 2;
};

// One delta-rule head with random unit embeddings, made by hand: no training before.
tier hand_built(const effort& e);
// Two Gated DeltaNet blocks that are trained here to recall from the context.
tier trained_here(const effort& e);

// A trained hybrid model on a kind of text that it has not seen, in bits per byte.
struct language {
  std::string note;
  struct row {
    std::string method, cost;
    index parameters = 0;
    double rate = 0, bits = 0;
  };
  std::vector<row> rows;
  double decode_without = 0, decode_with = 0;  // tokens/s, medians of paired rounds
  double decode_ratio = 0;                     // median of the rounds' ratios, with over without
};
language unseen_text(const effort& e, const std::filesystem::path& model, const std::filesystem::path& text);

}  // namespace s0
