// Runs a check for every registered mixer with many seeds. A failure prints mixer and seed; WEFT_SEED=n runs that seed alone,
// WEFT_CONFIGURATIONS=n that many seeds a mixer and check, WEFT_MIXER=text the mixers whose name holds it.
#pragma once
#include <cstdlib>

#include "random_problem.hpp"

namespace contract {

inline long setting(const char* name, long otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::strtol(text, nullptr, 10) : otherwise;
}

template <class Check>
void repeat(const subject& m, long count, Check&& check) {
  const long only = setting("WEFT_SEED", -1), n = setting("WEFT_CONFIGURATIONS", count);
  for (long seed = only >= 0 ? only : 0; seed < (only >= 0 ? only + 1 : n); ++seed) {
    INFO("replay: WEFT_MIXER='" << m.name << "' WEFT_SEED=" << seed);
    dice d(static_cast<unsigned>(seed) * 2654435761u + static_cast<unsigned>(std::hash<std::string>{}(m.name)));
    check(m, d);
  }
}

template <class Check>
void for_each_subject(long count, Check&& check) {
  const char* const wanted = std::getenv("WEFT_MIXER");
  for (const auto& m : all_subjects())
    if (!wanted || m->name.find(wanted) != std::string::npos) repeat(*m, count, check);
}

}  // namespace contract
