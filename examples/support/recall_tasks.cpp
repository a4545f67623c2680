#include "recall_tasks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace recall {
namespace {

constexpr float forget_all = -std::numeric_limits<float>::infinity();

// Pairs and rewrites.
constexpr index width = 64, rewritten_keys = 16;
constexpr float recency = 3e-4f;  // a token, in the last channel of a key: settles scores that are else equal

struct pairs {
  std::vector<std::vector<float>> keys;
  std::vector<std::size_t> written, value, last;  // key and value of each write; the value of each key at the end
};

pairs draw_pairs(index writes, index keys, std::mt19937& random) {
  pairs p;
  std::normal_distribution<float> normal;
  for (index i = 0; i < keys; ++i) {
    auto& key = p.keys.emplace_back(static_cast<std::size_t>(width), 0.0f);
    for (std::size_t c = 0; c + 1 < key.size(); ++c) key[c] = normal(random);  // the last channel is for positions
    const float length = std::sqrt(std::inner_product(key.begin(), key.end(), key.begin(), 0.0f));
    for (float& x : key) x /= length;
  }
  p.last.resize(p.keys.size());
  for (index i = 0; i < writes; ++i) {
    p.written.push_back(static_cast<std::size_t>(i % keys));
    p.value.push_back(random() % static_cast<std::size_t>(width));
    p.last[p.written.back()] = p.value.back();
  }
  return p;
}

// How gates are set: chosen on streams of another seed.
struct gates {
  float decay = 0;      // of every token, log
  bool hashed = false;  // a key is its largest channel, and a write forgets that channel alone
  float strength = 1;   // of a write: how much of what was there it erases
};

bool erases(kind k) { return k == kind::erasing || k == kind::two_writers || k == kind::product; }

std::vector<gates> choices(const mixer& m) {
  std::vector<gates> all;
  if (m.own_keys) all.push_back({});
  if (m.decays)
    for (const float decay : {-0.01f, -0.03f, -0.1f, -0.3f}) all.push_back({.decay = decay});
  if (m.channels) all.push_back({.hashed = true});
  if (erases(m.kind))
    for (const float strength : {0.5f, 0.2f, 0.05f}) all.push_back({.strength = strength});
  return all;
}

std::size_t largest(const float* x, index n) { return static_cast<std::size_t>(std::max_element(x, x + n) - x); }

void put_key(const std::vector<float>& key, const gates& how, float* to) {
  if (how.hashed) to[largest(key.data(), width)] = 1;
  else std::copy(key.begin(), key.end(), to);
}

double recalled(weft::cpu& cpu, const mixer& m, const pairs& p, const gates& how, std::size_t* bytes) {
  const index count = std::ssize(p.written), asked = std::ssize(p.keys);
  tokens t(1, count, width, width);
  t.decay_all(how.decay);
  for (index i = 0; i < count; ++i) {
    const auto n = static_cast<std::size_t>(i);
    put_key(p.keys[p.written[n]], how, &t.k(0, i, 0, 0));
    if (m.kind == kind::attention) t.k(0, i, 0, width - 1) = recency * static_cast<float>(i);
    if (how.hashed) t.g_key(0, i, 0, static_cast<index>(largest(&t.k(0, i, 0, 0), width))) = forget_all;
    t.v(0, i, 0, static_cast<index>(p.value[n])) = 1;
    t.beta(0, i, 0) = how.strength;
  }
  t.derive();
  const auto session = m.start(1, width, width, count + 1, 1);
  weft::array<float, 4> o({1, count, 1, width});
  session->write(cpu, t, o);
  *bytes = session->bytes();

  constexpr index together = 32;
  index right = 0;
  for (index first = 0; first < asked; first += together) {
    const index rows = std::min(together, asked - first);
    tokens ask(rows, 1, width, width);
    for (index i = 0; i < rows; ++i) {
      put_key(p.keys[static_cast<std::size_t>(first + i)], how, &ask.q(i, 0, 0, 0));
      ask.q(i, 0, 0, width - 1) += m.kind == kind::attention ? 1.0f : 0.0f;
    }
    if (m.kind == kind::attention)  // its own token is read too: far from every key
      for (index i = 0; i < rows; ++i) ask.k(i, 0, 0, width - 1) = -1;
    ask.derive();
    weft::array<float, 4> answer({rows, 1, 1, width});
    session->read(cpu, ask, answer);
    for (index i = 0; i < rows; ++i) right += largest(&answer(i, 0, 0, 0), width) == p.last[static_cast<std::size_t>(first + i)];
  }
  return static_cast<double>(right) / static_cast<double>(asked);
}

outcome run_pairs(weft::cpu& cpu, const mixer& m, bool rewrites, const sizes& s, unsigned seed) {
  outcome out;
  for (const index writes : s.writes) {
    const index keys = rewrites ? std::min(rewritten_keys, writes) : writes;
    const auto share = [&](const gates& how, unsigned first_seed, index streams) {
      double sum = 0;
      for (index i = 0; i < streams; ++i) {
        std::mt19937 random(first_seed + static_cast<unsigned>(i));
        sum += recalled(cpu, m, draw_pairs(writes, keys, random), how, &out.bytes);
      }
      return sum / static_cast<double>(streams);
    };
    const auto all = choices(m);
    gates best = all.front();
    double most = -1;
    for (const gates& how : all) {
      if (all.size() == 1) break;
      const double got = share(how, seed + 1000, 2);
      if (got > most) most = got, best = how;
    }
    out.right.push_back(share(best, seed, s.streams));
  }
  return out;
}

// Words. Letter i of S3 is a permutation of three things and, for a state that can do any matrix of rank one besides its decays, a
// matrix of a representation in which every letter is one: Diag(d) + b a^T with d of zeros and ones. Both act on the state from the left.
constexpr index things = 4;  // three, and one to fill up
using vector = std::array<float, 3>;
using matrix = std::array<std::array<double, 2>, 2>;

struct letter {
  std::array<std::size_t, 3> to;  // thing i goes to place to[i]
  matrix small;
  std::vector<std::array<std::size_t, 2>> swaps;  // whose product it is, the first one first
};

matrix times(const matrix& x, const matrix& y) {
  matrix z{};
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t j = 0; j < 2; ++j) z[i][j] = x[i][0] * y[0][j] + x[i][1] * y[1][j];
  return z;
}

// The identity, the turn and its square, then each followed by a swap: the first three are even.
const std::array<letter, 6>& group() {
  static const std::array<letter, 6> all = [] {
    const double r = std::sqrt(3.0);
    const matrix turn{{{-2, r}, {-r, 1}}}, flip{{{0, 1}, {1, 0}}};  // turn^3 = flip^2 = 1, flip turn flip = turn^2
    std::array<letter, 6> g;
    matrix even{{{1, 0}, {0, 1}}};
    for (std::size_t i = 0; i < 3; ++i, even = times(turn, even)) {
      g[i] = {.to = {i % 3, (1 + i) % 3, (2 + i) % 3}, .small = even, .swaps = {}};
      g[i + 3] = {.to = {}, .small = times(flip, even), .swaps = {}};
      for (std::size_t k = 0; k < 3; ++k) g[i + 3].to[k] = g[i].to[k] == 2 ? 2 : 1 - g[i].to[k];
    }
    for (letter& l : g) {
      auto left = l.to;  // sorted by swaps, which are then its product in reverse
      for (std::size_t i = 0; i < 3; ++i)
        while (left[i] != i) {
          l.swaps.insert(l.swaps.begin(), {i, left[i]});
          const std::size_t j = left[i];
          for (std::size_t& place : left) place = place == i ? j : place == j ? i : place;
        }
    }
    return g;
  }();
  return all;
}

std::size_t after(std::size_t before, std::size_t next) {
  std::array<std::size_t, 3> to{};
  for (std::size_t i = 0; i < 3; ++i) to[i] = group()[next].to[group()[before].to[i]];
  return static_cast<std::size_t>(std::find_if(group().begin(), group().end(), [&](const letter& l) { return l.to == to; }) - group().begin());
}

constexpr vector probe{1, 2, 3};

// What is read after the letters' product is g: the probe moved by it, S^T q with S = M.
vector code(const mixer& m, std::size_t g) {
  vector c{};
  const letter& l = group()[g];
  if (m.kind == kind::two_writers) {
    for (std::size_t j = 0; j < 2; ++j) c[j] = static_cast<float>(l.small[0][j] * static_cast<double>(probe[0]) + l.small[1][j] * static_cast<double>(probe[1]));
  } else {
    for (std::size_t i = 0; i < 3; ++i) c[i] = probe[l.to[i]];
  }
  return c;
}

// Diag(d) + b a^T with d of zeros and ones.
struct rank_one {
  std::array<double, 2> d{}, a{}, b{};
};
rank_one split(const matrix& m) {
  for (const std::array<double, 2> d : {std::array{1.0, 1.0}, {1.0, 0.0}, {0.0, 1.0}}) {
    const matrix e{{{m[0][0] - d[0], m[0][1]}, {m[1][0], m[1][1] - d[1]}}};
    if (std::abs(e[0][0] * e[1][1] - e[0][1] * e[1][0]) > 1e-9) continue;
    const std::size_t row = std::abs(e[0][0]) + std::abs(e[0][1]) > std::abs(e[1][0]) + std::abs(e[1][1]) ? 0 : 1;
    const std::size_t column = std::abs(e[row][0]) > std::abs(e[row][1]) ? 0 : 1;
    if (std::abs(e[row][column]) < 1e-9) return {d, {0, 0}, {0, 0}};
    return {d, e[row], {e[0][column] / e[row][column], e[1][column] / e[row][column]}};
  }
  return {};
}

index first_tokens(kind k) { return k == kind::two_writers ? 2 : k == kind::erasing || k == kind::product ? 3 : 0; }

void put_letter(const mixer& m, std::size_t g, tokens& t, index word, index at) {
  const letter& l = group()[g];
  const index first = at * t.writes;
  switch (m.kind) {
    case kind::erasing:
    case kind::product:
      for (index w = 0; w < std::min(t.writes, std::ssize(l.swaps)); ++w) {
        const auto [i, j] = l.swaps[static_cast<std::size_t>(w)];
        t.k(word, first + w, 0, static_cast<index>(i)) = std::sqrt(0.5f);
        t.k(word, first + w, 0, static_cast<index>(j)) = -std::sqrt(0.5f);
        t.beta(word, first + w, 0) = 2;
      }
      break;
    case kind::two_writers: break;  // a and b, after derive()
    default: {
      const vector c = code(m, g);
      std::copy(c.begin(), c.end(), &t.v(word, at, 0, 0));
      t.beta(word, at, 0) = 1;
      if (m.kind == kind::attention) t.k(word, at, 0, 0) = 0.1f * static_cast<float>(at);
      else t.k(word, at, 0, at % 2) = 1;  // in turns, for a read before the write
    }
  }
}

outcome run_words(weft::cpu& cpu, const mixer& m, bool swaps, const sizes& s, unsigned seed) {
  std::mt19937 random(seed);
  const index letters = s.letters.back(), before = first_tokens(m.kind), time = before + letters, writes = m.kind == kind::product ? 2 : 1;
  const bool keeps = before > 0;  // the product itself; others keep the last letter
  tokens t(s.words, time, things, things, writes);
  if (!keeps) {
    t.decay_all(forget_all);
    std::fill_n(t.bonus.data(), t.bonus.size(), 1.0f);
  }
  std::vector<std::vector<std::size_t>> drawn(static_cast<std::size_t>(s.words)), product = drawn;
  for (index w = 0; w < s.words; ++w) {
    auto &word = drawn[static_cast<std::size_t>(w)], &so_far = product[static_cast<std::size_t>(w)];
    for (index i = 0; i < before; ++i) t.k(w, i * writes, 0, i) = t.v(w, i * writes, 0, i) = t.beta(w, i * writes, 0) = 1;
    for (index i = 0; i < letters; ++i) {
      word.push_back(swaps ? 3 + random() % 3 : random() % 6);
      so_far.push_back(i > 0 ? after(so_far.back(), word.back()) : word.back());
      put_letter(m, word.back(), t, w, before + i);
    }
    for (index i = 0; i < time; ++i) {
      if (keeps) std::copy_n(probe.begin(), before, &t.q(w, i, 0, 0));
      else t.q(w, i, 0, m.kind == kind::attention ? 0 : i % 2) = 1;
    }
  }
  t.derive();
  if (m.kind == kind::two_writers) {
    std::array<rank_one, 6> parts;
    for (std::size_t g = 0; g < parts.size(); ++g) parts[g] = split(group()[g].small);
    for (index w = 0; w < s.words; ++w)
      for (index i = 0; i < letters; ++i) {
        const rank_one& part = parts[drawn[static_cast<std::size_t>(w)][static_cast<std::size_t>(i)]];
        for (index c = 0; c < 2; ++c) {
          const auto n = static_cast<std::size_t>(c);
          t.a(w, before + i, 0, c) = static_cast<float>(part.a[n]);
          t.b(w, before + i, 0, c) = static_cast<float>(part.b[n]);
          t.g_key(w, before + i, 0, c) = part.d[n] > 0 ? 0.0f : forget_all;
        }
      }
    for (index w = 0; w < s.words; ++w)  // the first tokens write, and erase nothing
      for (index i = 0; i < before; ++i)
        for (index c = 0; c < things; ++c) t.a(w, i, 0, c) = t.b(w, i, 0, c) = 0;
  }
  const auto session = m.start(s.words, things, things, time, writes);
  weft::array<float, 4> o({s.words, time, 1, things});
  session->write(cpu, t, o);

  outcome out{.right = {}, .bytes = session->bytes()};
  for (const index length : s.letters) {
    index right = 0;
    for (index w = 0; w < s.words; ++w) {
      std::size_t nearest = 0;
      float least = std::numeric_limits<float>::infinity();
      for (std::size_t g = 0; g < 6; ++g) {
        const vector c = code(m, g);
        float distance = 0;
        for (std::size_t i = 0; i < 3; ++i) {
          const float d = o(w, before + length - 1, 0, static_cast<index>(i)) - c[i];
          distance += d * d;
        }
        if (distance < least) least = distance, nearest = g;
      }
      right += nearest == product[static_cast<std::size_t>(w)][static_cast<std::size_t>(length - 1)];
    }
    out.right.push_back(static_cast<double>(right) / static_cast<double>(s.words));
  }
  return out;
}

}  // namespace

outcome run(weft::cpu& cpu, const mixer& m, task t, const sizes& s, unsigned seed) {
  return t == task::pairs || t == task::rewrites ? run_pairs(cpu, m, t == task::rewrites, s, seed) : run_words(cpu, m, t == task::swaps, s, seed);
}

std::string way(const mixer& m) {
  switch (m.kind) {
    case kind::sum: return "adds k v^T; of a word, the sum of its letters";
    case kind::forgetting:
      if (!m.own_keys) return "a channel a key, forgotten when written; of a word, the last letter";
      return std::string("adds k v^T, ") + (m.channels ? "by the best decay or a channel a key" : "by the best decay") + "; of a word, the last letter";
    case kind::erasing: return "erases along k; beta = 2 is a swap, a turn would be two";
    case kind::two_writers: return "erases along k; a letter is Diag(0 or 1) + b a^T, in a basis that has all six so";
    case kind::product: return "erases along k; a letter is up to two swaps, beta = 2";
    case kind::attention: return "the nearest key, the newest of equals; of a word, the last letter";
  }
  return {};
}

std::string missed(const mixer& m, task t, const outcome& o) {
  const bool group_task = t == task::swaps || t == task::words;
  const bool exact = (t == task::swaps && erases(m.kind)) ||
                     (t == task::words && (m.kind == kind::two_writers || m.kind == kind::product)) || m.name == "softmax_attention";
  const auto text = [&](const char* expected, double got) {
    return std::string(m.name) + ", " + task_names[static_cast<std::size_t>(t)] + ": expected " + expected + " right, got " + std::to_string(got);
  };
  const double least = *std::min_element(o.right.begin(), o.right.end());
  if (exact && !(group_task && m.kind == kind::attention)) return least < 1 ? text("all answers", least) : std::string();
  if (group_task && o.right.back() > 0.5) return text("at most half of the longest", o.right.back());
  return {};
}

}  // namespace recall
