// Wrong calls: each throws before anything is written, and the sentence says which tensor, what was expected and what came.
#pragma once
#include "each.hpp"

namespace contract {

// Runs a call that must fail with one of the codes; outputs and state stay as they were.
inline void refused(const subject& m, verb v, const problem& p, const std::vector<tensor>& in, any_state& state, tensor o, block& memory,
                    std::span<const index> cu, std::initializer_list<weft::errc> codes, const std::string& tensor_name) {
  const auto before = state.values();
  memory.keep();
  weft::cpu cpu;
  try {
    m.run(v, cpu, in, state, o, cu);
    FAIL("a wrong call passed");
  } catch (const weft::error& e) {
    const std::string what = e.what();
    CAPTURE(what, p.s.batch, p.s.time, p.s.heads, p.s.group, p.s.key_dim, p.s.value_dim);
    CHECK(std::count(codes.begin(), codes.end(), e.code()) == 1);
    CHECK(what.find("expected") != std::string::npos);
    CHECK(what.find("got") != std::string::npos);
    if (!tensor_name.empty()) CHECK(what.starts_with("weft: " + tensor_name + ":"));
  }
  const bool kept = memory.unchanged();
  CHECK(kept);
  CHECK(same(state.values(), before));
}

inline void refuses_wrong_calls(const subject& m, dice& d) {
  using weft::errc;
  sizes s;
  s.batch = 2, s.time = 3, s.heads = 5, s.group = 2, s.key_dim = 3, s.value_dim = 6;
  problem p = random_problem(m, s, {}, d);
  for (field& f : p.fields) f.null = false;
  const auto state = random_state(m, p, start::random, d);
  const arguments a = arrange(p, layout::padded, d);
  block memory;
  const auto extent = m.output_extents(p.s);
  const tensor o = memory.place(m.storage(), extent, padded_strides({"o", false, false, m.storage(), m.output_axes()}, extent, d));
  const auto any = {errc::shape, errc::heads, errc::missing, errc::sequence};
  const auto wrong = [&](const std::vector<tensor>& in, const tensor& to, std::span<const index> cu, std::initializer_list<errc> codes, const std::string& who,
                         verb v = verb::scan) { refused(m, v, p, in, *state, to, memory, cu, codes, who); };

  for (std::size_t i = 0; i < p.fields.size(); ++i) {
    const std::string name(p.fields[i].info.name);
    CAPTURE(name);
    // Which tensor is at odds is told by the first that differs from those before it, so the first input may blame others.
    for (std::size_t dim = 0; dim < a.in[i].extent.size(); ++dim)
      for (const index change : {-1, 1}) {
        auto in = a.in;
        in[i].extent[dim] += change;
        CAPTURE(dim, change);
        wrong(in, o, {}, any, "");
        wrong(in, o, {}, any, "", verb::literal);
      }
    if (!p.fields[i].info.optional) {
      auto in = a.in;
      in[i].data = nullptr;
      wrong(in, o, {}, {errc::missing, errc::shape}, "");
    }
    const axis last = p.fields[i].info.axes.back();
    if (last == axis::key_dim || last == axis::value_dim) {
      auto in = a.in;
      in[i].stride.back() = 2;
      wrong(in, o, {}, {errc::shape}, name);
    }
  }
  for (std::size_t dim = 0; dim < extent.size(); ++dim) {
    tensor bad = o;
    bad.extent[dim] -= 1;
    wrong(a.in, bad, {}, {errc::shape, errc::heads}, "o");
  }
  tensor null = o;
  null.data = nullptr;
  wrong(a.in, null, {}, {errc::missing}, "o");
  tensor sparse = o;
  sparse.stride.back() = 2;
  wrong(a.in, sparse, {}, {errc::shape}, "o");
  // An output whose elements meet: the same token again and again, rows that reach into the next.
  tensor repeated = o, narrow = o;
  repeated.stride[1] = 0;
  narrow.stride[1] = extent.back() - 1;
  for (const tensor& bad : {repeated, narrow}) wrong(a.in, bad, {}, {errc::overlap}, "o");

  // Extents below 0, and more elements than memory has, on which all tensors agree.
  for (const auto& [batch, time] : {std::pair<index, index>{-1, 3}, {2, -3}, {2, index{1} << 61}, {index{1} << 31, index{1} << 31}}) {
    sizes odd = p.s;
    odd.batch = batch, odd.time = time;
    auto in = a.in;
    tensor to = o;
    for (std::size_t i = 0; i < in.size(); ++i) in[i].extent = odd.extents(p.fields[i].info);
    to.extent = m.output_extents(odd);
    CAPTURE(batch, time);
    wrong(in, to, {}, any, "");
    wrong(in, to, {}, any, "", verb::literal);
  }

  // Key heads that divide nothing are those of the first input that has them.
  auto few = a.in;
  std::string first;
  for (std::size_t i = 0; i < few.size(); ++i)
    for (std::size_t dim = 0; dim < few[i].extent.size(); ++dim)
      if (p.fields[i].info.axes[dim] == axis::key_head) {
        few[i].extent[dim] = 4;
        if (first.empty()) first = p.fields[i].info.name;
      }
  if (!first.empty()) wrong(few, o, {}, {errc::heads, errc::shape}, first);

  // Offsets of packed sequences: several batches, not from 0, descending, short of the end, past it.
  const std::vector<index> two_rows{0, 1, 3};
  wrong(a.in, o, two_rows, {errc::sequence}, "cu_seqlens");
  problem packed = p;
  packed.s.batch = 1;
  auto one = a.in;
  for (std::size_t i = 0; i < one.size(); ++i)
    if (p.fields[i].info.has(axis::batch)) one[i] = one[i].slice(0, 0, 1);
  const tensor row = o.slice(0, 0, 1);
  for (const std::vector<index>& cu : {std::vector<index>{1, 2, 3}, {0, 4, 3}, {0, -1, 3}, {0, 1, 2}, {0, 1, 4}})
    wrong(one, row, cu, {errc::sequence}, "cu_seqlens");
  wrong(one, row, std::vector<index>{0, 1, 2, 3}, {errc::shape}, "");  // three sequences, a state of two
  // A step takes one token.
  wrong(a.in, o, {}, {errc::shape}, "", verb::step);
}

}  // namespace contract
