// Attention on a cache whose pages lie anywhere: what a server shares among sequences and gives back page by page.
#pragma once
#include "attention_scan.hpp"

namespace weft {
inline namespace v1 {

// Which page holds a sequence's tokens from `page() * i` on is said by the table, whose entries are the caller's: below 0 there is
// none yet, and what would lie there is neither written nor read. Sequences may share pages that none of them still fills.
// Stands for the cache of attention in scan and step; a window's pages that no query reads any more may be taken from it.
template <storage T>
struct paged_cache {
  template <template <class, int> class Other>
  using with = key_value_cache<T, Other>;

  device_array<T, 4> keys;               // [pages, H, page, K]
  device_array<T, 4> values;             // [pages, H, page, V]
  device_array<std::int32_t, 2> table;   // [N, most pages of a sequence]
  device_array<std::int64_t, 1> length;  // [N]
  detail::known_lengths<device_array> known{};

  // Empty, without pages in the table. Reads all of the shape; capacity is the most tokens of a sequence.
  paged_cache(cuda& executor, const shape& s, index page, index pages) {
    require(page >= 1, errc::value, "page: expected at least 1 token, got ", page);
    keys = {executor.stream(), {pages, s.heads, page, s.key_dim}};
    values = {executor.stream(), {pages, s.heads, page, s.value_dim}};
    table = {executor.stream(), {s.batch, (s.capacity + page - 1) / page}};
    length = {executor.stream(), {s.batch}};
    known.held.assign(static_cast<std::size_t>(s.batch), 0);
    check_cuda(cudaMemsetAsync(table.data(), 0xff, table.bytes(), executor.stream()), "cudaMemsetAsync");
  }

  index page() const { return keys.extent(2); }
  index capacity() const { return table.extent(1) * page(); }
  index held(index n) const { return known(length, n); }
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace device {

// A pool of pages as the checks of attention look at a cache.
template <class T>
struct pages_as_cache {
  struct rows {
    const device_array<T, 4>& pool;
    std::array<index, 4> extents;

    bool null() const { return pool.null(); }
    const std::array<index, 4>& extent() const { return extents; }
    index extent(int d) const { return extents[static_cast<std::size_t>(d)]; }
    view<const T, 4> view() const { return pool.view(); }
  };
  const paged_cache<T>& cache;
  rows keys, values;
  const device_array<std::int64_t, 1>& length;

  explicit pages_as_cache(const paged_cache<T>& c)
      : cache(c), keys{c.keys, {c.length.size(), c.keys.extent(1), c.capacity(), c.keys.extent(3)}}, values{c.values, {c.length.size(), c.values.extent(1), c.capacity(), c.values.extent(3)}},
        length(c.length) {}
  index capacity() const { return cache.capacity(); }
  index held(index n) const { return cache.held(n); }
};

template <class T, class Selector>
void run_on_pages(cuda& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, paged_cache<T>& cache,
                  const typename attention<T, Selector>::outputs& out, std::span<const index> cu, bool step) {
  require(cache.values.extent(0) == cache.keys.extent(0) && cache.values.extent(2) == cache.page(), errc::shape, "state.values: expected the pages of keys");
  require(cache.table.extent(0) == cache.length.size(), errc::shape, "state.table: expected a row for each of ", cache.length.size(), " sequences, got ", cache.table.extent(0));
  attention_extents x = check_attention(mixer, in, pages_as_cache<T>(cache), out, cu);
  require(!step || x.time == 1 || x.batch == 0, errc::shape, "step: expected inputs of one token (time 1), got ", x.time);
  x.slots = cache_slots(cache.capacity(), {});  // never a ring
  for (index n = 0; n < x.sequences; ++n)
    require(tokens_of(x, cu, n).count() <= cache.capacity() - cache.held(n), errc::capacity, "state.table: sequence ", n, " holds ", cache.held(n), " of ", cache.capacity(),
            " tokens; expected room for ", tokens_of(x, cu, n).count(), " more");
  run_attention(executor, mixer, x, in, cache,
                cached_rows<T>{.keys = cache.keys.data(), .values = cache.values.data(), .length = cache.length.data(), .slots = x.slots, .table = cache.table.data(),
                               .table_width = cache.table.extent(1), .page = cache.page(), .pages = cache.keys.extent(0)},
                out, cu, step);
}

}  // namespace device

template <class T, device_selector Selector>
void run_scan(cuda& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, paged_cache<T>& cache,
              const typename attention<T, Selector>::outputs& out, std::span<const index> cu) {
  device::run_on_pages(executor, mixer, in, cache, out, cu, false);
}
template <class T, device_selector Selector>
void run_step(cuda& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, paged_cache<T>& cache,
              const typename attention<T, Selector>::outputs& out) {
  device::run_on_pages(executor, mixer, in, cache, out, {}, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
