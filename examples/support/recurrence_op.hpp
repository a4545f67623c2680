// Any recurrence policy as an operator: tensors are found by the policy's names, placed by its roles.
#pragma once
#include <weft/weft.hpp>

#include <cmath>
#include <tuple>

#include "feed.hpp"

namespace ops {

// Owns what the views of an inputs struct look at.
template <class Policy, class T>
struct recurrence_inputs {
  using inputs = weft::inputs_of<Policy, T>;

  inputs views;
  index batch = -1, time = -1;
  weft::shape shape{.heads = -1, .key_dim = -1, .value_dim = -1};

  // The first tensor that has a dimension states its extent, and others are held against it.
  explicit recurrence_inputs(const tensor_reader& in) {
    const auto settle = [](index& extent, index given) { extent = extent < 0 ? given : extent; };
    weft::for_each_member(views, [&](auto& v, auto i) {
      using view_type = std::remove_cvref_t<decltype(v)>;
      constexpr weft::role r = view_type::role;
      const weft::input_name name = weft::name_of<Policy>(i);
      auto& owned = std::get<i>(owned_);
      owned = in.array<std::remove_const_t<typename view_type::element>, view_type::rank>(name.text, name.optional);
      if (owned.null()) return;
      v = std::as_const(owned).view();
      constexpr int head_dim = r.time ? 2 : 0;
      if constexpr (r.heads == weft::per_head::value) settle(shape.heads, owned.extent(head_dim));
      if constexpr (r.width == weft::width::key_dim) settle(shape.key_dim, owned.extent(head_dim + 1));
      if constexpr (r.width == weft::width::value_dim) settle(shape.value_dim, owned.extent(head_dim + 1));
      if constexpr (r.time && !r.micro) {
        settle(batch, owned.extent(0));
        settle(time, owned.extent(1));
      }
    });
  }
  recurrence_inputs(const recurrence_inputs&) = delete;

 private:
  template <class View>
  static weft::array<std::remove_const_t<typename View::element>, View::rank> owner_of(const View&);
  template <class Tuple>
  struct owners;
  template <class... View>
  struct owners<std::tuple<View&...>> {
    using type = std::tuple<decltype(owner_of(std::declval<View>()))...>;
  };
  typename owners<decltype(weft::tie_members(std::declval<inputs&>()))>::type owned_;
};

// The scan with a tape, and the gradients of everything that it reads.
template <class Mixer>
void scan_with_gradients(const call& c, const Mixer& mixer, const typename Mixer::inputs& in, typename Mixer::state_type& state, weft::array<typename Mixer::real, 4>& o,
                         const std::vector<index>& cu, results& r) {
  using policy = typename Mixer::policy_type;
  using real = typename Mixer::real;
  const auto d_o = c.in.array<real, 4>("do", true);
  typename Mixer::state_gradient d_state{weft::array<real, 4>(state.matrix.extent()), weft::array<real, 3>(state.normaliser.extent())};
  c.in.replace("dht", d_state.matrix);
  if (!state.normaliser.null()) c.in.replace("dnt", d_state.normaliser);

  weft::tape tape;
  weft::scan(c.cpu, mixer, in, state, {.o = o}, tape, cu);
  typename Mixer::gradients d_in{};
  std::apply(
      [&](auto... v) {
        std::tuple<weft::array<real, decltype(v)::rank>...> owned{weft::array<real, decltype(v)::rank>(v.extent)...};
        weft::for_each_member(d_in, [&](auto& d, auto i) {
          if (!std::get<i>(weft::tie_members(in)).null()) d = std::get<i>(owned).view();
        });
        weft::vjp(c.cpu, mixer, in, tape, {.o = d_o}, d_state, d_in);
        weft::for_each_member(d_in, [&](const auto& d, auto i) {
          if (!d.null()) r.outputs.emplace("d" + std::string(weft::name_of<policy>(i).text), to_result(std::get<i>(owned)));
        });
      },
      weft::tie_members(in));
  r.outputs.emplace("dh0", to_result(d_state.matrix));
  if (!state.normaliser.null()) r.outputs.emplace("dn0", to_result(d_state.normaliser));
}

template <class Mixer>
results run_recurrence(const call& c, Mixer mixer) {
  using policy = typename Mixer::policy_type;
  using real = typename Mixer::real;
  recurrence_inputs<policy, typename Mixer::storage_type> in(c.in);
  const std::vector<index> cu = c.in.cu_seqlens(in.batch, in.time);
  // In files the default is key_dim^-1/2 for every operator but Mamba-2, also where a model runs with 1.
  if (!mixer.scale && !std::is_same_v<policy, weft::mamba2_policy> && in.shape.key_dim > 0)
    mixer.scale = 1.0 / std::sqrt(static_cast<double>(in.shape.key_dim));
  in.shape.batch = cu.empty() ? in.batch : static_cast<index>(cu.size()) - 1;

  auto state = mixer.state(in.shape);
  c.in.replace("h0", state.matrix);
  c.in.replace("n0", state.normaliser);
  weft::array<real, 4> o({in.batch, in.time, in.shape.heads, in.shape.value_dim});
  weft::check_recurrence(mixer, in.views, state, {.o = o}, cu);  // before pieces are cut from views that may not match

  results r;
  if constexpr (with_gradients<typename Mixer::storage_type>)
    if (c.gradients) scan_with_gradients(c, mixer, in.views, state, o, cu, r);
  if (!c.gradients)
    feed(
        c, mixer, state, in.time, cu, [&](index first, index count) { return weft::slice_tokens(in.views, first, count, mixer.micro_steps); },
        [&](index first, index count) { return typename Mixer::outputs{.o = o.view().slice(1, first, count)}; });

  if constexpr (requires { run_validate(mixer, in.views); }) warn(mixer, in.views, r);
  r.outputs.emplace("o", to_result(o));
  r.outputs.emplace("ht", to_result(state.matrix));
  if (!state.normaliser.null()) r.outputs.emplace("nt", to_result(state.normaliser));
  return r;
}

// The mixer of a policy with the options that all recurrences have; `set` adds the policy's own.
template <class Policy, class Set>
results recurrence_operator(const call& c, Set&& set) {
  return with_storage(c, weft::name_of<Policy>(0).text, [&](auto t) {
    weft::recurrence<Policy, typename decltype(t)::type> mixer;
    mixer.scale = c.options.number("scale");
    mixer.qk_l2norm = c.options.flag("qk_l2norm", false);
    mixer.l2norm_eps = c.options.at_least("l2norm_eps", 0.0, mixer.l2norm_eps);
    mixer.micro_steps = static_cast<int>(c.options.integer("micro_steps", 1, 1));
    mixer.normaliser_eps = c.options.at_least("eps", 0.0, mixer.normaliser_eps);
    set(mixer.policy);
    return run_recurrence(c, mixer);
  });
}

template <class Policy>
results run_policy(const call& c) {
  return recurrence_operator<Policy>(c, [](auto&) {});
}

// A table row; the options follow from the policy's axes.
template <class Policy>
op recurrence_row(std::string_view name, results (*run)(const call&) = run_policy<Policy>, std::vector<std::string_view> own = {}) {
  std::vector<std::string_view> options = std::move(own);
  options.push_back("scale");
  if (weft::unit_keys<Policy>() > 0) options.insert(options.end(), {"qk_l2norm", "l2norm_eps"});
  if (Policy::axes.micro_steps) options.push_back("micro_steps");
  if (Policy::axes.normalised) options.push_back("eps");
  return {.name = name, .main_input = weft::name_of<Policy>(0).text, .options = std::move(options), .has_gradients = true, .run = run};
}

}  // namespace ops
