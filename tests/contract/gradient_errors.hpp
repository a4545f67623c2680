// A way back that is not that of the tape's scan, or writes where it must not, is refused before anything is written.
#pragma once
#include "gradients.hpp"

namespace contract {

// "1.d_q: ..." of a combination as "d_q: ...", "0.q" as "q".
inline std::string without_part(const std::string& text) { return text.substr(std::min(text.find_first_not_of("0123456789."), text.size())); }

inline void refuses_wrong_ways_back(const subject& m, dice& d) {
  if (!m.has_gradients()) return;
  sizes size;
  size.batch = 2, size.time = 3, size.heads = 5, size.group = 2, size.key_dim = 3, size.value_dim = 6;
  scene s(m, size, {}, d);
  for (field& f : s.p.fields) f.null = false;
  stage c(m, s);
  weft::cpu cpu;
  weft::tape tape;
  m.record(cpu, c.a.in, *c.state, c.o, tape, {});

  const auto refused = [&](const std::string& who, const std::vector<tensor>& in, const weft::tape& by, const tensor& d_o, any_state& d_state,
                           const std::vector<tensor>& d_in, const stage& on) {
    CAPTURE(who);
    const auto before = d_state.values();
    try {
      m.vjp(cpu, in, by, d_o, d_state, d_in);
      FAIL_CHECK("a wrong way back passed");
    } catch (const weft::error& e) {
      const std::string what = e.what();
      CAPTURE(what);
      CHECK(what.starts_with("weft: "));
      CHECK(without_part(what.substr(6)).starts_with(who));
      CHECK(what.find("expected") != std::string::npos);
    }
    const bool kept = on.gradients_unchanged();
    CHECK(kept);
    CHECK(same(d_state.values(), before));
  };
  const auto refused_tape = [&](const weft::tape& by) { refused("tape:", c.a.in, by, c.d_o, *c.d_state, c.d_in, c); };
  refused_tape({});
  refused_tape({.record = 3});
  refused("tape:", piece(c.a.in, s.p, 0, 2), tape, c.d_o.slice(1, 0, 2), *c.d_state, piece(c.d_in, s.p, 0, 2), c);
  refused("d_state", c.a.in, tape, c.d_o, *c.d_state->gather({0}), c.d_in, c);
  for (std::size_t dim = 0; dim < c.d_o.extent.size(); ++dim) {
    tensor bad = c.d_o;
    bad.extent[dim] -= 1;
    refused("d_o:", c.a.in, tape, bad, *c.d_state, c.d_in, c);
  }

  for (std::size_t i = 0; i < s.inputs(); ++i) {
    const input_info& info = s.p.fields[i].info;
    const auto refused_gradient = [&](const std::string& who, auto&& spoil) {
      auto bad = c.d_in;
      spoil(bad[i]);
      refused(who, c.a.in, tape, c.d_o, *c.d_state, bad, c);
    };
    const std::string name = "d_" + without_part(std::string(info.name)) + ":";
    for (std::size_t dim = 0; dim < info.axes.size(); ++dim)
      for (const index change : {-1, 1}) refused_gradient(name, [&](tensor& t) { t.extent[dim] += change; });
    if (info.has(axis::time) && (info.axes.back() == axis::key_dim || info.axes.back() == axis::value_dim)) refused_gradient(name, [](tensor& t) { t.stride.back() = 2; });
    if (const auto& e = c.d_in[i].extent; e.front() > 1) refused_gradient(name, [](tensor& t) { t.stride.front() = 0; });
    // Over what is read, or written. Laid over a smaller tensor it may reach another gradient behind it, which is then named.
    for (const tensor& in : c.a.in) refused_gradient("d_", [&](tensor& t) { t.data = in.data; });
    refused_gradient("d_", [&](tensor& t) { t.data = c.d_o.data; });
    for (std::size_t j = 0; j < i; ++j) refused_gradient("d_", [&](tensor& t) { t.data = c.d_in[j].data; });
    if (const tensor part = c.d_state->parts().front(); part.size() > 0) refused_gradient("d_", [&](tensor& t) { t.data = part.data; });
    if (!info.optional) continue;
    weft::tape without;
    auto in = c.a.in;
    in[i].data = nullptr;
    const auto state = s.start->copy();
    m.record(cpu, in, *state, c.o, without, {});
    refused(name, in, without, c.d_o, *c.d_state, c.d_in, c);
  }

  // Packed: a gradient of as many states as the tape has sequences.
  size.batch = 1, size.cu = {0, 1, 3};
  const scene packed(m, size, {}, d);
  stage two(m, packed);
  m.record(cpu, two.a.in, *two.state, two.o, tape, size.cu);
  for (const std::vector<index>& rows : {std::vector<index>{0}, {0, 1, 1}}) refused("d_state", two.a.in, tape, two.d_o, *two.d_state->gather(rows), two.d_in, two);
}

}  // namespace contract
