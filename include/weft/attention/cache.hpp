// The state of attention: the keys and values that later queries may read, as a value like every state.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "../core/array.hpp"
#include "../core/dtype.hpp"
#include "../core/state.hpp"
#include "selector.hpp"

namespace weft {
inline namespace v1 {

// Where the token at an absolute position lies in a cache of so many slots: at its own position while that fits, then
// around the ring behind the first `kept` slots. Growing caches never reach the ring.
struct cache_slots {
  index slots = 0, kept = 0;
  bool ring = false;

  cache_slots() = default;
  cache_slots(index count, const retained_keys& r) : slots(count) {
    ring = r.last != every_key && r.first <= count && r.last <= count - r.first;
    kept = ring ? r.first : count;
  }
  WEFT_HD WEFT_INLINE index around() const { return slots - kept; }
  WEFT_HD WEFT_INLINE index slot(index position) const { return position < slots ? position : kept + (position - kept) % around(); }

  // How many slots a new cache gets: what is asked for, but never more than later queries can read.
  static index wanted(index capacity, const retained_keys& r) {
    if (r.last == every_key) return capacity;
    const index all = r.first > every_key - r.last ? every_key : r.first + r.last;
    return capacity == 0 ? all : std::min(capacity, all);
  }
};

namespace detail {
// What the host knows of lengths: where they lie on the host, themselves.
template <template <class, int> class Array>
struct known_lengths {
  // Else what was sent, and the tokens of the calls since; nothing where that is not known. A replayed graph is not seen.
  std::vector<std::int64_t> held;

  bool holds(const Array<std::int64_t, 1>& length) const { return static_cast<index>(held.size()) == length.size(); }
  index operator()(const Array<std::int64_t, 1>& length, index n) const { return holds(length) ? held[static_cast<std::size_t>(n)] : 0; }
};
template <>
struct known_lengths<array> {
  WEFT_INLINE index operator()(const array<std::int64_t, 1>& length, index n) const { return length(n); }
};
}  // namespace detail

// `length` counts the tokens of the whole stream, so positions stay absolute where a ring has dropped its oldest keys.
template <storage T, template <class, int> class Array = array>
struct key_value_cache {
  template <template <class, int> class Other>
  using with = key_value_cache<T, Other>;

  Array<T, 4> keys;                 // [N, H, capacity, K]
  Array<T, 4> values;               // [N, H, capacity, V]
  Array<std::int64_t, 1> length;    // [N]
  [[no_unique_address]] detail::known_lengths<Array> known{};

  auto parts() { return std::tuple{part{"keys", keys}, part{"values", values}, part{"length", length}}; }
  auto parts() const { return std::tuple{part{"keys", keys}, part{"values", values}, part{"length", length}}; }
  key_value_cache like() const { return {}; }
  WEFT_INLINE key_value_cache gather(std::span<const index> rows) const {
    auto out = weft::gather(*this, rows);
    if constexpr (requires { known.held; })
      if (known.holds(length))
        for (const index r : rows) out.known.held.push_back(known.held[static_cast<std::size_t>(r)]);
    return out;
  }
  WEFT_INLINE key_value_cache gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }

  index capacity() const { return keys.extent(2); }
  // The tokens of sequence n so far, as the host knows them.
  WEFT_INLINE index held(index n) const { return known(length, n); }
  // After a copy of a cache of the host.
  WEFT_INLINE void came_from(const key_value_cache<T>& host) {
    if constexpr (requires { known.held; }) known.held.assign(host.length.data(), host.length.data() + host.length.size());
  }

  // Whether the parts fit each other, as those of a file need not. Throws errc::shape or value, naming the part.
  WEFT_INLINE void check() const {
    for (int d = 0; d < 3; ++d)
      if (values.extent(d) != keys.extent(d))
        throw error(errc::shape, "weft: values: expected the " + std::string(d == 0 ? "sequences" : d == 1 ? "key heads" : "slots") + " of keys, " +
                                     std::to_string(keys.extent(d)) + ", got " + std::to_string(values.extent(d)));
    if (length.extent(0) != keys.extent(0))
      throw error(errc::shape, "weft: length: expected the sequences of keys, " + std::to_string(keys.extent(0)) + ", got " + std::to_string(length.extent(0)));
    check_lengths(every_key / 2);  // positions are sums of two
  }
  // And whether it holds no more than its slots, unless these are a ring for what is retained.
  WEFT_INLINE void check(const retained_keys& retained) const {
    check();
    if (!cache_slots(capacity(), retained).ring) check_lengths(capacity());
  }

  // Makes room for `capacity` tokens a sequence; O(cache). Throws errc::value for less room than now, and for a ring that
  // has begun to drop tokens: it holds all that its window reads.
  void grow(index capacity) {
    if (capacity < keys.extent(2))
      throw error(errc::value, "weft: grow: expected a capacity of at least " + std::to_string(keys.extent(2)) + ", got " + std::to_string(capacity));
    for (index n = 0; n < length.size(); ++n)
      if (length(n) > keys.extent(2))
        throw error(errc::value, "weft: grow: sequence " + std::to_string(n) + " is a ring that has dropped tokens; it needs no more room");
    array<T, 4> more_keys = wider(keys, capacity), more_values = wider(values, capacity);
    keys = std::move(more_keys);
    values = std::move(more_values);
  }

 protected:
  WEFT_INLINE void check_lengths(index most) const {
    for (index n = 0; n < length.size(); ++n)
      if (length(n) < 0 || length(n) > most)
        throw error(errc::value, "weft: length: expected 0 to " + std::to_string(most) + " tokens, got " + std::to_string(length(n)) + " for sequence " + std::to_string(n));
  }
  template <class E>
  static array<E, 4> wider(const array<E, 4>& from, index capacity) {
    auto extent = from.extent();
    const index old_row = extent[2] * extent[3], rows = extent[0] * extent[1];
    extent[2] = capacity;
    array<E, 4> to(extent);
    for (index r = 0; r < rows; ++r) std::copy_n(from.data() + r * old_row, old_row, to.data() + r * capacity * extent[3]);
    return to;
  }
};

// A cache that also keeps the mean of every whole block of keys: what a block is scored by without reading its keys again.
template <storage T>
struct pooled_cache : key_value_cache<T> {
  using R = accumulate_t<T>;
  array<R, 4> pooled;    // [N, H, capacity / block_size, K]
  index block_size = 1;  // the mixer's

  auto parts() { return std::tuple{part{"keys", this->keys}, part{"values", this->values}, part{"length", this->length}, part{"pooled", pooled}}; }
  auto parts() const { return std::tuple{part{"keys", this->keys}, part{"values", this->values}, part{"length", this->length}, part{"pooled", pooled}}; }
  pooled_cache like() const {
    pooled_cache s;
    s.block_size = block_size;
    return s;
  }
  WEFT_INLINE pooled_cache gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE pooled_cache gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }

  WEFT_INLINE void check(const retained_keys& retained) const {
    key_value_cache<T>::check(retained);
    const auto& e = this->keys.extent();
    if (pooled.extent() != std::array<index, 4>{e[0], e[1], e[2] / block_size, e[3]})
      throw error(errc::shape, "weft: pooled: expected " + std::to_string(e[2] / block_size) + " blocks of " + std::to_string(block_size) + " keys, got " +
                                   std::to_string(pooled.extent(2)));
  }
  WEFT_INLINE void check() const { check(retained_keys{}); }
  void grow(index capacity) {
    auto more = this->wider(pooled, std::max(pooled.extent(2), capacity / block_size));
    key_value_cache<T>::grow(capacity);
    pooled = std::move(more);
  }
};

// The gradient of a cache, slot by slot: zero where later tokens overwrite it.
template <class R>
struct cache_gradient {
  array<R, 4> keys;    // [N, H, capacity, K]
  array<R, 4> values;  // [N, H, capacity, V]

  cache_gradient() = default;
  // Zeros.
  template <class T>
  WEFT_INLINE explicit cache_gradient(const key_value_cache<T>& of) : keys(of.keys.extent()), values(of.values.extent()) {}

  auto parts() { return std::tuple{part{"keys", keys}, part{"values", values}}; }
  auto parts() const { return std::tuple{part{"keys", keys}, part{"values", values}}; }
  cache_gradient like() const { return {}; }
  WEFT_INLINE cache_gradient gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE cache_gradient gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

}  // namespace v1
}  // namespace weft
