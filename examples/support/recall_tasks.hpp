// The tasks of `recall`, none of them learned: every mixer gets the gates that its equation can make the most of.
//
//   pairs     N random keys of unit length with a value each (one of 64), written one after another, then every key is asked for
//   rewrites  16 keys, each written N / 16 times with a new value; the last one counts
//   swaps     words of swaps of three things; after each letter the arrangement is asked for
//   words     words of all six permutations of three things (the group S3)
#pragma once
#include "recall_mixers.hpp"

#include <string>
#include <vector>

namespace recall {

enum class task { pairs, rewrites, swaps, words };

inline constexpr std::size_t task_count = 4;
inline constexpr const char* task_names[] = {"pairs", "rewrites", "swaps", "words"};

struct outcome {
  std::vector<double> right;  // the share of right answers at each size
  std::size_t bytes = 0;      // of the state at the largest size
};

struct sizes {
  std::vector<index> writes, letters;  // ascending; letters odd: an even word of swaps is never a swap, which one letter would betray
  index streams = 4, words = 256;      // that a share is taken over
  const std::vector<index>& of(task t) const { return t == task::pairs || t == task::rewrites ? writes : letters; }
};

outcome run(weft::cpu& cpu, const mixer& m, task t, const sizes& s, unsigned seed);

// How the mixer is used, in a sentence.
std::string way(const mixer& m);

// What the equation promises of the outcome; an empty text, or what was missed.
std::string missed(const mixer& m, task t, const outcome& o);

}  // namespace recall
