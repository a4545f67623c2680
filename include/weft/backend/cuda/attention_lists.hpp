// A caller's lists of blocks as a selector on the device.
#pragma once
#include <numeric>

#include "attention_job.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

struct lists_on_device {
  static constexpr bool per_query_head = true;
  block_lists lists;
  index time = 0, query_heads = 0;
  const std::int64_t* length = nullptr;
  const index* offsets = nullptr;  // of packed sequences, or null

  // Query heads of one key head that are one block: they have one list.
  int share(int group) const {
    const int common = static_cast<int>(std::gcd<index, index>(query_heads / lists.list_heads(), group));
    int rows = std::min(common, 16);
    while (common % rows != 0) --rows;
    return rows;
  }
  template <class F>
  __device__ void select(const query_span& q, F&& f) const {
    const index t = q.begin - length[q.sequence] + (offsets ? offsets[q.sequence] : 0), batch = offsets ? 0 : q.sequence;
    const index of = q.query_head / (query_heads / lists.list_heads());
    index count;
    const std::int32_t* entries;
    if (lists.compressed()) {
      const index row = (batch * time + t) * lists.heads + of, all = lists.entries.extent[0], first = lists.offsets(row), last = lists.offsets(row + 1);
      if (first < 0 || last > all) return;
      entries = lists.entries.data + first, count = last - first;
    } else {
      entries = &lists.blocks(batch, t, of, 0), count = lists.blocks.extent[3];
    }
    const index size = lists.block_size;
    index before = 0;
    for (index i = 0; i < count && entries[i] >= 0; ++i) {
      const index begin = entries[i] * size;
      if (begin < before || begin >= q.keys) continue;
      before = begin + size < q.keys ? begin + size : q.keys;
      f(key_range{begin, before});
    }
  }
};

template <class Selector>
struct on_device_selector {
  using type = Selector;
};
template <>
struct on_device_selector<block_lists> {
  using type = lists_on_device;
};
template <class Selector>
using selector_on_device = typename on_device_selector<Selector>::type;

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
