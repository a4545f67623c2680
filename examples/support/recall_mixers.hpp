// Mixers by name, fed with tokens built by hand: what `recall` streams its tasks through.
#pragma once
#include <weft/core/array.hpp>
#include <weft/core/executor.hpp>

#include <memory>
#include <span>
#include <string_view>

namespace recall {

using weft::index;

inline constexpr double sharpness = 1024;  // of attention's scores
inline constexpr index window = 33;       // 32 older tokens: as many bytes as a recurrent state of the task of pairs

// One head. A token writes value v at key k with a strength (1 writes, 2 reflects what lies along k, 0 does nothing), after
// the state has decayed, and reads at q. Every mixer takes from it what its equation has.
struct tokens {
  index batch, time, writes;           // writes a token
  weft::array<float, 4> q, k, v;       // [B, T, 1, K], [B, T writes, 1, K], [B, T writes, 1, V]
  weft::array<float, 3> beta, g;       // [B, T writes, 1], [B, T, 1]
  weft::array<float, 1> g_head;        // [1]
  weft::array<float, 4> g_key;         // [B, T, 1, K]
  weft::array<float, 4> beta_key, beta_value, beta_v, a, b, p;  // strengths a channel; beta v; -k, beta k; exp(g) k
  weft::array<float, 3> one;           // [B, T, 1]: ones
  weft::array<float, 2> bonus;         // [1, K]: zeros

  tokens(index batch, index time, index key_dim, index value_dim, index writes = 1);
  void decay_all(float log_decay);
  // Fills what follows from k, v, beta and g. Call it last, or before a, b are set otherwise.
  void derive();
};

// What the equation of a mixer can do with a state.
enum class kind {
  sum,         // adds what it is given
  forgetting,  // and forgets it by decays above zero
  erasing,     // and erases along the key it writes: one reflection a token
  two_writers, // and along a vector of its own: any matrix of rank one a token
  product,     // several reflections a token
  attention,   // keeps the tokens and reads by score
};

// A mixer and its state, of one sequence or a batch of them.
struct session {
  virtual ~session() = default;
  virtual void write(weft::cpu& cpu, const tokens& t, weft::view<float, 4> o) = 0;
  // One token for each row of t, each with the first sequence's state.
  virtual void read(weft::cpu& cpu, const tokens& t, weft::view<float, 4> o) const = 0;
  virtual std::size_t bytes() const = 0;  // of one sequence's state
};

struct mixer {
  std::string_view name;
  recall::kind kind;
  bool decays = false, channels = false;  // has decays; has one for every key channel
  bool own_keys = true;                   // false: the key is what the decay forgets
  // For so many tokens in all; writes a token for those that have several.
  std::unique_ptr<session> (*start)(index batch, index key_dim, index value_dim, index tokens, index writes) = nullptr;
};

std::span<const mixer> all_mixers();
// Throws errc::unsupported naming those there are.
const mixer& find_mixer(std::string_view name);

}  // namespace recall
