// Layers one after another: x -> layer 0 -> layer 1 -> ... -> y, each with a state of its own. A layer is any mixer from x to y
// [B, T, hidden] (layer/layer.hpp); what a model puts around one (norms, residuals) is that layer's business.
//
//   auto model = weft::schedule(gdn_layer, gdn_layer, gdn_layer, swa_layer);
//   weft::scan(cpu, model, {.x = x}, S, {.y = y});
//
// A schedule is a layer like any other: of another schedule, or behind any_layer. Between its layers lie two activations.
#pragma once
#include "../core/check.hpp"
#include "parts.hpp"

namespace weft {
inline namespace v1 {

namespace detail {

template <class L>
concept from_x_to_y = requires(const L& l, const inputs_t<L>& in, const outputs_t<L>& out) {
  typename L::storage_type;
  { l.hidden() } -> std::same_as<index>;
  in.x;
  out.y;
};

}  // namespace detail

template <class... L>
struct layer_schedule : mixer_parts<L...> {
  static_assert((detail::from_x_to_y<L> && ...), "weft: a schedule is made of layers, which have hidden() and go from x to y");
  using base = mixer_parts<L...>;
  template <std::size_t I>
  using layer = std::tuple_element_t<I, std::tuple<L...>>;
  using inputs = inputs_t<layer<0>>;
  using outputs = outputs_t<layer<0>>;
  using storage_type = typename layer<0>::storage_type;
  static_assert(detail::all_same<typename L::storage_type...>, "weft: the layers of a schedule are of one storage type");
  static constexpr bool rehearses = true;

  index hidden() const { return std::get<0>(this->mixers).hidden(); }

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
  return {{std::tuple<L...>{std::move(layers)...}}};
}

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

// What is refused, and memory that runs out, is found before anything is written, where all layers rehearse.
template <class... L>
void run_schedule(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in,
                  typename layer_schedule<L...>::state_type& state, const typename layer_schedule<L...>::outputs& out, const part_call& call) {
  using schedule = layer_schedule<L...>;
  using T = typename schedule::storage_type;
  constexpr std::size_t last = schedule::count - 1;
  const auto& x = in.x;
  check::tensor("x", x, {x.extent[0], x.extent[1], s.hidden()}, false, true);
  out.y.visit([&](const auto& y) {
    check::tensor("y", y, x.extent, false, true);
    using element = typename std::remove_cvref_t<decltype(y)>::element;
    const bool in_place = static_cast<const void*>(y.data) == x.data && y.stride == x.stride && std::is_same_v<element, T>;
    if (!in_place) check::no_overlap("y", y, "x", x);
  });
  temporaries::scope shared(executor.temporaries());
  const view<T, 3> between[] = {shared.take<T>(x.extent[0], x.extent[1], x.extent[2]), shared.take<T>(x.extent[0], x.extent[1], x.extent[2])};
  const auto run = [&](auto wanted) {
    for_each_index<schedule::count>([&](auto i) {
      using layer = typename schedule::template layer<i>;
      if constexpr (wanted.template operator()<layer>()) {
        inputs_t<layer> from{};
        from.x = i == 0 ? x : view<const T, 3>(between[(i + 1) % 2]);
        in_part(i, [&] {
          if constexpr (i < last) call(executor, std::get<i>(s.mixers), from, std::get<i>(state.states), {.y = between[i % 2]});
          else call(executor, std::get<i>(s.mixers), from, std::get<i>(state.states), {.y = out.y});
        });
      }
    });
  };
  {
    rehearsal before(executor);
    run([]<class layer>() { return requires { requires layer::rehearses; }; });
  }
  if (!executor.rehearsing()) run([]<class layer>() { return true; });
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
