// One call, or several on pieces, with the memory around every tensor watched: gaps and borders hold NaN patterns, inputs
// must not change, outputs must be written whole, and nothing else.
#pragma once
#include "../catch.hpp"
#include "../difference.hpp"
#include "subject.hpp"

namespace contract {

enum class layout { contiguous, padded, fused };

// Memory for tensors, 64 bytes away from anything else on both sides; all bits set where nothing is put.
class block {
 public:
  tensor place(element type, const std::vector<index>& extent, std::vector<index> stride, index offset = 0) {
    const auto width = static_cast<index>(bytes_of(type));
    index span = 1;
    for (std::size_t d = 0; d < extent.size(); ++d) span += std::max<index>(0, extent[d] - 1) * stride[d];
    for (const index e : extent)
      if (e == 0) span = offset = 0;
    const index begin = 64 + offset * width, need = begin + span * width + 64;
    if (static_cast<index>(bytes_.size()) < need) {
      if (!bytes_.empty()) throw std::logic_error("a block is sized by its first tensor");
      bytes_.assign(static_cast<std::size_t>(need), std::byte{0xff});
    }
    return {type, bytes_.data() + begin, extent, std::move(stride)};
  }
  void keep() { kept_ = bytes_; }
  bool unchanged() const { return kept_ == bytes_; }
  // Whether all bytes outside of t are as they were kept.
  bool unchanged_but(const tensor& t) {
    auto now = bytes_;
    const auto width = static_cast<index>(bytes_of(t.type));
    t.for_each([&](index, const std::byte* p) {
      const index at = p - bytes_.data();
      std::copy_n(kept_.begin() + at, width, now.begin() + at);
    });
    return now == kept_;
  }

 private:
  std::vector<std::byte> bytes_, kept_;
};

struct arguments {
  std::vector<block> blocks;
  std::vector<tensor> in;
};

// Strides of a tensor of its own with room between its rows. Numbers of heads may lie apart; rows of channels may not.
inline std::vector<index> padded_strides(const input_info& info, const std::vector<index>& extent, dice& d) {
  std::vector<index> stride(extent.size(), 1);
  const bool scattered = info.axes.back() == axis::key_head || info.axes.back() == axis::value_head;
  index next = scattered ? 1 + d.below(3) : 1;
  for (std::size_t i = extent.size(); i-- > 0;) {
    stride[i] = next;
    next = next * std::max<index>(1, extent[i]) + d.below(4);
  }
  return stride;
}

inline arguments arrange(const problem& p, layout how, dice& d) {
  arguments a;
  const auto rows = [](const field& f) { return !f.null && f.info.axes.size() >= 2 && f.info.axes[1] == axis::time && !f.info.micro; };
  index fused_row = 0, fused_block = -1;
  if (how == layout::fused) {
    for (const field& f : p.fields)
      if (rows(f) && f.info.type == p.fields[0].info.type) {
        index n = 1;
        for (std::size_t i = 2; i < f.extent.size(); ++i) n *= f.extent[i];
        fused_row += n;
      }
    fused_row += d.below(4);
  }
  a.blocks.reserve(p.fields.size() + 1);
  index offset = 0;
  for (const field& f : p.fields) {
    if (f.null) {
      a.in.push_back({f.info.type, nullptr, f.extent, row_major(f.extent)});
      continue;
    }
    tensor t;
    if (how == layout::fused && rows(f) && f.info.type == p.fields[0].info.type) {
      std::vector<index> stride = row_major(f.extent);
      index n = 1;
      for (std::size_t i = 2; i < f.extent.size(); ++i) n *= f.extent[i];
      stride[1] = fused_row, stride[0] = p.s.time * fused_row;
      if (fused_block < 0) {
        fused_block = static_cast<index>(a.blocks.size());
        a.blocks.emplace_back().place(f.info.type, {p.s.batch * p.s.time * fused_row}, {1});
      }
      t = a.blocks[static_cast<std::size_t>(fused_block)].place(f.info.type, f.extent, stride, offset);
      offset += n;
    } else {
      const auto stride = how == layout::padded ? padded_strides(f.info, f.extent, d) : row_major(f.extent);
      t = a.blocks.emplace_back().place(f.info.type, f.extent, stride, how == layout::padded ? d.below(4) : 0);
    }
    t.put(f.values);
    a.in.push_back(t);
  }
  for (block& b : a.blocks) b.keep();
  return a;
}

struct how {
  contract::verb verb = verb::scan;
  contract::layout layout = layout::contiguous;
  weft::cpu* on = nullptr;
  bool wide_output = false;
  std::vector<index> cuts = {};  // ascending positions in time at which a scan is split
  unsigned seed = 0;             // of the layout
};

struct outcome {
  std::vector<double> o;
  std::unique_ptr<any_state> state;

  bool operator==(const outcome& other) const { return same(o, other.o) && same(state->values(), other.state->values()); }
};

// The tokens [first, first + count) of every timed input.
inline std::vector<tensor> piece(const std::vector<tensor>& in, const problem& p, index first, index count) {
  std::vector<tensor> part = in;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (const input_info& info = p.fields[i].info; info.has(axis::time)) {
      const index rows = info.micro ? p.s.micro : 1;
      part[i] = in[i].slice(1, first * rows, count * rows);
    }
  return part;
}

inline std::vector<index> every_token(index time) {
  std::vector<index> cuts;
  for (index t = 1; t < time; ++t) cuts.push_back(t);
  return cuts;
}

inline outcome run(const subject& m, const problem& p, const any_state& start, how h = {}) {
  dice d(h.seed);
  arguments a = arrange(p, h.layout, d);
  const element type = h.wide_output ? m.accumulator() : m.storage();
  const std::vector<index> extent = m.output_extents(p.s);
  input_info like_output{"o", false, false, type, m.output_axes()};
  block memory;
  const tensor o = memory.place(type, extent, h.layout == layout::contiguous ? row_major(extent) : padded_strides(like_output, extent, d));
  memory.keep();

  weft::cpu own;
  weft::cpu& on = h.on ? *h.on : own;
  outcome result{{}, start.copy()};
  std::vector<index> cuts = h.cuts;
  if (h.verb == verb::step) cuts = every_token(p.s.time);
  cuts.push_back(p.s.time);
  if (h.verb == verb::step && p.s.time == 0) cuts.clear();
  index from = 0;
  for (const index to : cuts) {
    const bool whole = from == 0 && to == p.s.time;
    m.run(h.verb, on, whole ? a.in : piece(a.in, p, from, to - from), *result.state, whole ? o : o.slice(1, from, to - from), p.s.cu);
    from = to;
  }
  bool inputs_kept = true;
  for (const block& b : a.blocks) inputs_kept &= b.unchanged();
  CHECK(inputs_kept);
  CHECK(memory.unchanged_but(o));
  result.o = o.get();
  return result;
}

inline std::size_t count_nan(const std::vector<double>& v) {
  return static_cast<std::size_t>(std::count_if(v.begin(), v.end(), [](double x) { return std::isnan(x); }));
}
using test::largest, test::largest_difference;

// Of a state's numbers; lengths are none.
inline double largest(any_state& s) {
  double m = 0;
  for (const tensor& t : s.parts())
    if (t.type != element::i64) m = std::max(m, largest(t.get()));
  return m;
}

// How far two ways to one output lie apart, over what rounding allows: 1e-6 of the largest number among outputs and states. An
// output is a sum over the state; what cancels in it, or was erased before, left its own rounding. A
// reflection (beta = 2) makes no number smaller, so the rounding of all tokens adds up. 16-bit numbers may fall to two neighbours.
inline double apart(const subject& m, const style& how, const outcome& a, const outcome& b, any_state& start) {
  const double difference = largest_difference(a.o, b.o), states = std::max(largest(start), largest(*b.state));
  const double one = (m.keys_erase() && how.betas == betas::two ? 4e-6 : 1e-6) * m.epsilon() / 0x1p-23;
  double allowed = one * std::max(states, largest(b.o)) + 2 * half_place(m.storage()) * largest(b.o);
  if (m.rounds_state()) allowed += 2 * half_place(m.state_storage()) * states;
  return difference == 0 ? 0 : difference / allowed;
}

}  // namespace contract
