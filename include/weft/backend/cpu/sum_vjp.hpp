// Gradients of sums of mixers: every part's from its own tape, by o's gradient times the part's weight; a weight's is o's gradient
// times what the part gave. A gated sum's tape keeps that, a number for each of o and each part, whatever `every` is.
#pragma once
#include <string>
#include <vector>

#include "../../core/tape.hpp"
#include "../../recurrence/policy.hpp"
#include "sum.hpp"

namespace weft {
inline namespace v1 {

template <class S>
struct sum_record {
  static constexpr int rank = S::types::rank;
  bool filled = false;  // not while a scan has begun and not ended
  std::array<index, static_cast<std::size_t>(rank)> extents{};  // of o
  std::array<tape, S::count> parts;
  std::array<array<accumulate_t<typename S::storage_type>, rank>, S::count> outputs;

  std::size_t bytes() const {
    std::size_t n = 0;
    for (const tape& t : parts) n += t.bytes();
    for (const auto& o : outputs) n += o.bytes();
    return n;
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// f(name, view) for every tensor of a mixer's inputs, or of their gradients, which are marked. Parts' names carry their numbers.
template <class M, class Tensors, class F>
void for_each_tensor(const Tensors& in, const std::string& part, std::string_view mark, F&& f) {
  const auto named = [&](std::string_view name, const auto& v) { f(part + std::string(mark) + std::string(name), v); };
  if constexpr (any_sum<M>) {
    if constexpr (M::gated) named("weights", in.weights);
    const auto& parts = parts_of<M>(in);
    if constexpr (M::types::one_input) for_each_tensor<std::tuple_element_t<0, decltype(M::mixers)>>(parts, part, mark, f);
    else for_each_index<M::count>([&](auto i) { for_each_tensor<std::tuple_element_t<i, decltype(M::mixers)>>(std::get<i>(parts), part + std::to_string(i) + ".", mark, f); });
  } else {
    for_each_member(in, [&](const auto& v, auto i) {
      if constexpr (requires { M::names; }) named(std::string_view(M::names[i]).substr(0, std::string_view(M::names[i]).find('?')), v);
      else if constexpr (requires { typename M::policy_type; }) named(name_of<typename M::policy_type>(i).text, v);
      else named("input " + std::to_string(i + 1), v);
    });
  }
}

// The parts have looked at their own tensors; here, whether they are apart from each other's.
template <any_sum S>
void check_sum_vjp(const typename S::inputs& in, const sum_record<S>& record, const typename S::cotangents& d_out, const typename S::state_gradient& d_state,
                   const typename S::gradients& d_in) {
  d_out.o.visit([&](const auto& o) { check::tensor("d_o", o, record.extents, true, true); });
  if constexpr (S::gated) {
    auto extents = record.extents;
    extents.back() = static_cast<index>(S::count);
    check::tensor("weights", in.weights, extents, false, true);
    check::result("d_weights", d_in.weights, extents, true, true);
  }
  std::vector<std::string> names;
  std::vector<check::operand> operands;
  for_each_tensor<S>(in, "", "", [&](std::string name, const auto& v) {
    names.push_back(std::move(name));
    operands.emplace_back(std::string_view(), v);
  });
  check::gradient_places places;
  for (std::size_t i = 0; i < names.size(); ++i) operands[i].name = names[i], places.read(operands[i]);
  places.read(check::operand("d_o", d_out.o.place()));
  for_each_part(d_state, [&](const auto& p) { places.write(check::operand("d_state", p.data.view())); });
  for_each_tensor<S>(d_in, "", "d_", [&](const std::string& name, const auto& v) {
    if (!v.null()) places.write(check::operand(name, v));
  });
}

// f(view, the other's view) for every pair among two sets of gradients of one type.
template <class A, class B, class F>
void for_each_gradient(A& a, B& b, F&& f) {
  if constexpr (requires { a.extent; }) {
    f(a, b);
  } else if constexpr (requires { std::tuple_size<A>::value; }) {
    for_each_index<std::tuple_size_v<A>>([&](auto i) { for_each_gradient(std::get<i>(a), std::get<i>(b), f); });
  } else {
    auto others = tie_members(b);
    for_each_member(a, [&](auto& x, auto i) { for_each_gradient(x, std::get<i>(others), f); });
  }
}

// Gradients of what all parts read: memory for one part's, and for the sum of several. Without any for a single part.
template <class R, class G>
class shared_gradients {
 public:
  shared_gradients(cpu& executor, temporaries::scope& memory, const G& wanted) : executor_(executor) {
    for (G* g : {&one, &total})
      for_each_gradient(*g, wanted, [&](auto& to, const auto& like) {
        if (!like.null()) to = std::apply([&](auto... e) { return memory.template take<R>(e...); }, like.extent);
      });
  }
  void add() {
    for_each_gradient(total, one, [&](auto& to, auto& from) {
      index n = to.null() ? 0 : 1;
      for (const index e : to.extent) n *= e;
      for_rows(executor_, {1, 1, (n + row - 1) / row}, row, [&](index, index, index r) {
        R* const sum = static_cast<R*>(to.data) + r * row;
        for_lanes<R>(std::min(row, n - r * row), [&](index i, auto lane) { put(sum + i, get(sum + i, lane) + get(static_cast<const R*>(from.data) + r * row + i, lane), lane); });
      });
    });
  }
  void store(const G& to) {
    for_each_gradient(to, total, [&](const auto& gradient, auto& sum) {
      if (gradient.null()) return;
      const auto numbers = rows(view<const R, static_cast<int>(std::tuple_size_v<decltype(sum.extent)>)>(static_cast<R*>(sum.data), sum.extent), gradient);
      const auto copy = [&](const auto& v) {
        const auto places = rows(v, gradient);
        for_rows(executor_, {places.extent[0], places.extent[1], places.extent[2]}, places.extent[3], [&](index b, index t, index h) {
          for_lanes<R>(places.extent[3], [&](index i, auto lane) { put(&places(b, t, h, i), get(&numbers(b, t, h, i), lane), lane); });
        });
      };
      if constexpr (requires { gradient.visit(copy); }) gradient.visit(copy);
      else copy(gradient);
    });
  }

  G one{}, total{};

 private:
  static constexpr index row = 1024;
  // A view in four dimensions; the last is that of `like` where it is dense there, else single numbers.
  template <class T, int Rank, class Like>
  static view<T, 4> rows(const view<T, Rank>& v, const Like& like) {
    view<T, 4> r(v.data, {1, 1, 1, 1}, {0, 0, 0, 1});
    const std::size_t last = Rank == 4 || like.stride.back() == 1 ? 4 : 3;
    for (std::size_t d = 0; d < Rank; ++d) r.extent[last - Rank + d] = v.extent[d], r.stride[last - Rank + d] = v.stride[d];
    return r;
  }
  cpu& executor_;
};

// to[b, t, h, i] = the gradient of o times what part i gave, summed over channels.
template <any_sum S>
void weight_gradients(cpu& executor, const sum_record<S>& record, const typename S::cotangents& d_out, const typename S::gradients& d_in) {
  using R = accumulate_t<typename S::storage_type>;
  const auto to = rows_of(d_in.weights);
  d_out.o.visit([&](const auto& d_o) {
    for_rows(executor, {to.extent[0], to.extent[1], to.extent[2]}, std::max<index>(1, record.extents.back()) * to.extent[3], [&](index b, index t, index h) {
      for (std::size_t i = 0; i < S::count; ++i) {
        simd<R> sum(R(0));
        const auto given = rows_of(record.outputs[i].view());
        if (!d_o.null()) for_lanes<R>(record.extents.back(), [&](index c, auto lane) { sum = fma(get(&rows_of(d_o)(b, t, h, c), lane), get(&given(b, t, h, c), lane), sum); });
        to(b, t, h, static_cast<index>(i)) = lane_sum(sum);
      }
    });
  });
}

}  // namespace detail

template <detail::any_sum S>
  requires(S::has_gradients)
void run_record(cpu& executor, const S& mixer, const typename S::inputs& in, typename S::state_type& state, const typename S::outputs& out, tape& tape,
                std::span<const index> cu) {
  require(tape.every >= 0, errc::value, "tape.every: expected 0 (keep the start alone) or a number of tokens, got ", tape.every);
  auto& record = tape.template fill<sum_record<S>>();
  record.filled = false;
  record.extents = out.o.extent;
  for (weft::tape& t : record.parts) t.every = tape.every;
  detail::run_sum(executor, mixer, in, state, out, {.cu_seqlens = cu, .tapes = record.parts.data()}, S::gated ? record.outputs.data() : nullptr);
  record.filled = true;
}

template <detail::any_sum S>
  requires(S::has_gradients)
void run_vjp(cpu& executor, const S& mixer, const typename S::inputs& in, const tape& tape, const typename S::cotangents& d_out,
             typename S::state_gradient& d_state, const typename S::gradients& d_in) {
  using R = accumulate_t<typename S::storage_type>;
  using types = typename S::types;
  const auto& record = tape.template read<sum_record<S>>();
  require(record.filled, errc::value, "tape: expected one filled by a scan of this mixer, got one whose scan did not end");
  const auto& d_parts = detail::parts_of<S>(d_in);

  temporaries::scope memory(executor.temporaries());
  view<const R, types::rank> weighed;
  if (S::gated && !d_out.o.null()) weighed = std::apply([&](auto... e) { return memory.take<R>(e...); }, record.extents);
  const auto part = [&](auto i, const auto& d_in_part) {
    cotangents_t<std::tuple_element_t<i, decltype(mixer.mixers)>> back{};
    if constexpr (S::gated) back.o = weighed;
    else back.o = d_out.o;
    detail::in_part(i, [&] {
      vjp(executor, std::get<i>(mixer.mixers), types::template input_of<i>(detail::parts_of<S>(in)), record.parts[i], back, std::get<i>(d_state.states), d_in_part);
    }, types::one_input);
  };
  const auto every_part = [&](const auto& d_in_of, const auto& after) {
    for_each_index<S::count>([&](auto i) {
      if constexpr (S::gated)
        d_out.o.visit([&](const auto& o) {
          if (!o.null()) detail::add_part<S, i, R>(executor, in, {}, detail::rows_of(o), detail::rows_of(view<R, types::rank>(const_cast<R*>(weighed.data), weighed.extent)));
        });
      part(i, d_in_of(i));
      after(i);
    });
  };
  const auto rehearse = [&](const auto& d_in_of) {
    const rehearsal nothing_written(executor);
    for_each_index<S::count>([&](auto i) { part(i, d_in_of(i)); });
  };

  if constexpr (types::one_input) {
    rehearse([&](auto) -> const auto& { return d_parts; });
    detail::check_sum_vjp<S>(in, record, d_out, d_state, d_in);
    detail::shared_gradients<R, std::remove_cvref_t<decltype(d_parts)>> shared(executor, memory, d_parts);
    rehearse([&](auto) -> const auto& { return shared.one; });
    if (executor.rehearsing()) return;
    every_part([&](auto i) -> const auto& { return i == 0 ? shared.total : shared.one; }, [&](auto i) {
      if (i > 0) shared.add();
    });
    shared.store(d_parts);
  } else {
    const auto own = [&](auto i) -> const auto& { return std::get<i>(d_parts); };
    rehearse(own);
    detail::check_sum_vjp<S>(in, record, d_out, d_state, d_in);
    if (executor.rehearsing()) return;
    every_part(own, [](auto) {});
  }
  if constexpr (S::gated)
    if (!d_in.weights.null()) detail::weight_gradients<S>(executor, record, d_out, d_in);
}

}  // namespace WEFT_ISA
}  // namespace weft
