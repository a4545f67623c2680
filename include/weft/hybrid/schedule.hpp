// Layers one after another: x -> layer 0 -> layer 1 -> ... -> y, each with a state of its own. A layer is any mixer from x to y
// [B, T, hidden] (layer/layer.hpp); what a model puts around one (norms, residuals) is that layer's business.
//
//   auto model = weft::schedule(gdn_layer, gdn_layer, gdn_layer, swa_layer);
//   weft::scan(cpu, model, {.x = x}, S, {.y = y});
//
// A schedule is a layer like any other: of another schedule, or behind any_layer. Between its layers lie two activations; a scan
// that leaves a tape keeps them all (schedule_vjp.hpp).
#pragma once
#include <vector>

#include "../core/check.hpp"
#include "../core/output.hpp"
#include "parts.hpp"

namespace weft {
inline namespace v1 {

// Whose calls are all or nothing (layer/layer.hpp).
template <class L>
concept rehearsing_layer = requires { requires L::rehearses; };
template <class L>
concept layer_with_parameter_gradients = mixer_with_gradients<L> && requires { typename L::parameter_gradients; };

namespace detail {

template <class L>
concept from_x_to_y = requires(const L& l, const inputs_t<L>& in, const outputs_t<L>& out) {
  typename L::storage_type;
  { l.hidden() } -> std::same_as<index>;
  in.x;
  out.y;
};

template <bool All, class... L>
struct schedule_gradients {};
template <class First, class... Rest>
struct schedule_gradients<true, First, Rest...> {
  using parameter_gradients = joint_state<typename First::parameter_gradients, typename Rest::parameter_gradients...>;
  using cotangents = cotangents_t<First>;
  struct gradients {
    output<typename First::storage_type, 3> x{};  // [B, T, hidden]
    parameter_gradients* parameters = nullptr;    // added to, as those of the layers are
  };
};

}  // namespace detail

template <class... L>
struct layer_schedule : mixer_parts<L...>, detail::schedule_gradients<(layer_with_parameter_gradients<L> && ...), L...> {
  static_assert((detail::from_x_to_y<L> && ...), "weft: a schedule is made of layers, which have hidden() and go from x to y");
  using base = mixer_parts<L...>;
  using base::base;
  template <std::size_t I>
  using layer = std::tuple_element_t<I, std::tuple<L...>>;
  using inputs = inputs_t<layer<0>>;
  using outputs = outputs_t<layer<0>>;
  using storage_type = typename layer<0>::storage_type;
  static_assert(detail::all_same<typename L::storage_type...>, "weft: the layers of a schedule are of one storage type");
  static constexpr bool rehearses = true;

  index hidden() const { return std::get<0>(this->mixers).hidden(); }
  static constexpr std::array<bool, base::count> layer_rehearses{rehearsing_layer<L>...};

  // The layers' parameters, "0.gate.weight".
  auto parts() { return detail::joint_parts(this->mixers); }
  auto parts() const { return detail::joint_parts(this->mixers); }

  using base::check_state;
  void check_state(const typename base::state_type& s, index sequences) const {
    for_each_index<base::count>([&](auto i) {
      if constexpr (requires { std::get<i>(this->mixers).check_state(std::get<i>(s.states), sequences); })
        std::get<i>(this->mixers).check_state(std::get<i>(s.states), sequences);
    });
  }
  // Grows what the states keep of every token, so that they can take so many more.
  void make_room(typename base::state_type& s, index tokens) const {
    for_each_index<base::count>([&](auto i) {
      if constexpr (requires { std::get<i>(this->mixers).make_room(std::get<i>(s.states), tokens); })
        std::get<i>(this->mixers).make_room(std::get<i>(s.states), tokens);
    });
  }
};

template <class... L>
layer_schedule<L...> schedule(L... layers) {
  return std::tuple<L...>{std::move(layers)...};
}

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

// run(i) for the layers [first, last), wherever they are held, in order or back; all or nothing: first those that rehearse do.
template <class Run>
void run_all(cpu& executor, std::size_t first, std::size_t last, bool back, std::span<const bool> rehearse, Run&& run) {
  const auto each = [&](bool all) {
    for (std::size_t n = first; n < last; ++n)
      if (const std::size_t i = back ? first + last - 1 - n : n; all || rehearse[i]) in_part(i, [&] { run(i); });
  };
  {
    const rehearsal nothing_written(executor);
    each(false);
  }
  if (!executor.rehearsing()) each(true);
}

// From x to y through all layers: run(i, x of layer i, its y). What the layers read is kept, where wanted; but for x.
template <class T, class Run>
void run_layers(cpu& executor, std::span<const bool> rehearse, index hidden, const view<const T, 3>& x, const output<T, 3>& y, std::vector<array<T, 3>>* kept,
                Run&& run) {
  const std::size_t count = rehearse.size();
  check::tensor("x", x, {x.extent[0], x.extent[1], hidden}, false, true);
  y.visit([&](const auto& to) {
    check::result("y", to, x.extent, false, true);
    if (!check::same_view(to, x) || kept) check::no_overlap("y", to, "x", x);
  });
  temporaries::scope shared(executor.temporaries());
  view<T, 3> two[2];
  for (view<T, 3>& v : two)
    if (!kept) v = shared.take<T>(x.extent[0], x.extent[1], x.extent[2]);
  if (kept) kept->resize(count);
  for (std::size_t i = 1; kept && i < count; ++i)
    if ((*kept)[i].null() || (*kept)[i].extent() != x.extent) (*kept)[i] = array<T, 3>(x.extent);
  const auto between = [&](std::size_t i) { return kept ? (*kept)[i].view() : two[i % 2]; };  // before layer i
  run_all(executor, 0, count, false, rehearse, [&](std::size_t i) {
    run(i, i == 0 ? x : view<const T, 3>(between(i)), i + 1 < count ? output<T, 3>(between(i + 1)) : y);
  });
}

// f(constant i).
template <std::size_t N, class F>
void with_index(std::size_t i, F&& f) {
  for_each_index<N>([&](auto constant) {
    if (constant == i) f(constant);
  });
}

template <class... L, class T = typename layer_schedule<L...>::storage_type>
void run_schedule(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in,
                  typename layer_schedule<L...>::state_type& state, const typename layer_schedule<L...>::outputs& out, const part_call& call,
                  std::vector<array<T, 3>>* kept = nullptr) {
  run_layers<T>(executor, s.layer_rehearses, s.hidden(), in.x, out.y, kept, [&](std::size_t layer, const view<const T, 3>& x, const output<T, 3>& y) {
    with_index<layer_schedule<L...>::count>(layer, [&](auto i) {
      inputs_t<typename layer_schedule<L...>::template layer<i>> from{};
      from.x = x;
      call(executor, i, std::get<i>(s.mixers), from, std::get<i>(state.states), {.y = y});
    });
  });
}

}  // namespace detail

template <class... L>
void run_scan(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in, typename layer_schedule<L...>::state_type& state,
              const typename layer_schedule<L...>::outputs& out, std::span<const index> cu) {
  detail::run_schedule(executor, s, in, state, out, {.cu_seqlens = cu});
}
template <class... L>
void run_step(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in, typename layer_schedule<L...>::state_type& state,
              const typename layer_schedule<L...>::outputs& out) {
  detail::run_schedule(executor, s, in, state, out, {.one_token = true});
}

}  // namespace WEFT_ISA
}  // namespace weft
