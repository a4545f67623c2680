// Layers one after another from a list that is known only when the program runs; itself a layer behind any_layer, so its state
// is saved, gathered, restored and resumed, and its gradients are asked for, as those of one layer are. Layer i's tensors are "i.name".
//
//   auto model = weft::schedule(std::vector{gdn, gdn, gdn, swa});      any_layer<float> each
//   auto state = model.state({.batch = B, .capacity = T});
//   weft::scan(cpu, model, {.x = x}, state, {.y = y});
#pragma once
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../hybrid/schedule_vjp.hpp"
#include "any_layer.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Names of layer i's things as the list has them.
template <class Named>
void append_named(std::vector<Named>& all, std::size_t i, std::vector<Named> of_layer) {
  for (Named& one : of_layer) {
    one.name = io::join(std::to_string(i), one.name);
    all.push_back(std::move(one));
  }
}

struct listed_states final : any_state::interface {
  std::vector<any_state> states;
  explicit listed_states(std::vector<any_state> s) : states(std::move(s)) {}
  std::unique_ptr<any_state::interface> clone() const override { return std::make_unique<listed_states>(states); }
  std::unique_ptr<any_state::interface> gather(std::span<const index> rows) const override {
    std::vector<any_state> some;
    for (const any_state& s : states) some.push_back(s.gather(rows));
    return std::make_unique<listed_states>(std::move(some));
  }
  std::vector<tensor> parts() const override {
    std::vector<tensor> all;
    for (std::size_t i = 0; i < states.size(); ++i) append_named(all, i, states[i].parts());
    return all;
  }
  const std::type_info& type() const override { return typeid(std::vector<any_state>); }
  void* value() override { return &states; }
};

template <class R>
struct listed_parameters final : any_parameters<R>::interface {
  std::vector<any_parameters<R>> parameters;
  explicit listed_parameters(std::vector<any_parameters<R>> p) : parameters(std::move(p)) {}
  std::unique_ptr<typename any_parameters<R>::interface> clone() const override { return std::make_unique<listed_parameters>(parameters); }
  std::vector<named_numbers<R>> list() override {
    std::vector<named_numbers<R>> all;
    for (std::size_t i = 0; i < parameters.size(); ++i) append_named(all, i, parameters[i].list());
    return all;
  }
  const std::type_info& type() const override { return typeid(std::vector<any_parameters<R>>); }
  void* value() override { return &parameters; }
};

template <class T>
struct layer_list final : any_layer<T>::interface {
  using base = any_layer<T>;
  using R = accumulate_t<T>;
  std::vector<any_layer<T>> layers;
  array<bool, 1> rehearse;

  explicit layer_list(std::vector<any_layer<T>> l) : layers(std::move(l)), rehearse({static_cast<index>(layers.size())}) {
    require(!layers.empty(), errc::missing, "schedule: expected at least one layer, got none");
    for (std::size_t i = 0; i < layers.size(); ++i) {
      require(layers[i].hidden() == layers[0].hidden(), errc::shape, "schedule: expected layers of one width, ", layers[0].hidden(), ", got ", layers[i].hidden(), " for layer ", i);
      rehearse(static_cast<index>(i)) = layers[i].get().rehearses();
    }
  }

  template <class Of>
  std::vector<Of>& own(std::string_view name, auto* of) const {
    if (!of || of->type() != typeid(std::vector<Of>) || static_cast<std::vector<Of>*>(of->value())->size() != layers.size())
      fail(errc::value, name, ": expected those of a list of ", layers.size(), " layers, got others");
    return *static_cast<std::vector<Of>*>(of->value());
  }
  std::vector<any_state>& states(any_state& s) const { return own<any_state>("state", s.get()); }
  // A state of every layer's.
  template <class F>
  any_state joined(F&& f) const {
    std::vector<any_state> all;
    for (std::size_t i = 0; i < layers.size(); ++i) all.push_back(f(i));
    return any_state(std::make_unique<listed_states>(std::move(all)));
  }

  index hidden() const override { return layers[0].hidden(); }
  bool rehearses() const override { return std::all_of(rehearse.data(), rehearse.data() + rehearse.size(), [](bool b) { return b; }); }
  bool published_state_is_transposed() const override { return false; }
  std::shared_ptr<typename base::interface> clone() const override { return std::make_shared<layer_list>(layers); }
  any_state state(const shape& s) const override {
    return joined([&](std::size_t i) { return layers[i].state(s); });
  }
  any_state restore(const tensor_file& file, const std::string& prefix) const override {
    return joined([&](std::size_t i) { return layers[i].get().restore(file, io::join(prefix, std::to_string(i))); });
  }
  void make_room(any_state& s, index tokens) const override {
    auto& all = states(s);
    for (std::size_t i = 0; i < layers.size(); ++i) layers[i].make_room(all[i], tokens);
  }

  void run(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out, std::vector<array<T, 3>>* kept, auto&& verb) const {
    auto& all = states(s);
    run_layers<T>(executor, {rehearse.data(), layers.size()}, hidden(), in.x, out.y, kept,
                  [&](std::size_t i, const view<const T, 3>& x, const output<T, 3>& y) { verb(i, typename base::inputs{x}, all[i], typename base::outputs{y}); });
  }
  void scan(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out, std::span<const index> cu) const override {
    run(executor, in, s, out, nullptr, [&](std::size_t i, const auto& x, any_state& own, const auto& y) { layers[i].get().scan(executor, x, own, y, cu); });
  }
  void step(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out) const override {
    run(executor, in, s, out, nullptr, [&](std::size_t i, const auto& x, any_state& own, const auto& y) { layers[i].get().step(executor, x, own, y); });
  }
  void record(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out, tape& tape, std::span<const index> cu) const override {
    record_layers<T>(layers.size(), in.x, tape, [&](auto& record) {
      run(executor, in, s, out, &record.inputs,
          [&](std::size_t i, const auto& x, any_state& own, const auto& y) { layers[i].get().record(executor, x, own, y, record.layers[i], cu); });
    });
  }

  std::vector<named_numbers<T>> parameters() override {
    std::vector<named_numbers<T>> all;
    for (std::size_t i = 0; i < layers.size(); ++i) append_named(all, i, layers[i].parameters());
    return all;
  }
  any_parameters<R> zero_gradients() const override {
    std::vector<any_parameters<R>> all;
    for (const any_layer<T>& l : layers) all.push_back(l.zero_gradients());
    return any_parameters<R>(std::make_unique<listed_parameters<R>>(std::move(all)));
  }
  any_state zero_state_gradient(any_state& of) const override {
    auto& all = states(of);
    return joined([&](std::size_t i) { return layers[i].zero_state_gradient(all[i]); });
  }
  // A layer's d_state that is empty is a gradient of zero and not wanted, as the whole is.
  void vjp(cpu& executor, const typename base::inputs& in, const tape& tape, const typename base::cotangents& d_out, any_state& d_state,
           const typename base::gradients& d_in) const override {
    std::vector<any_state> none(layers.size());
    auto& d_states = d_state.empty() ? none : own<any_state>("d_state", d_state.get());
    auto* const d = d_in.parameters ? &own<any_parameters<R>>("gradients of the parameters", d_in.parameters->get()) : nullptr;
    std::size_t lowest = d || !d_in.x.null() ? 0 : layers.size();
    for (std::size_t i = layers.size(); i-- > 0;)
      if (!d_states[i].empty()) lowest = std::min(lowest, i);
    run_layers_back<T>(executor, {rehearse.data(), layers.size()}, lowest, in.x, tape, d_out.y, d_in.x,
                       [&](std::size_t i, const weft::tape& kept, const view<const T, 3>& x, const cotangent<T, 3>& d_y, const output<T, 3>& d_x) {
      layers[i].get().vjp(executor, {x}, kept, {d_y}, d_states[i], {.x = d_x, .parameters = d ? &(*d)[i] : nullptr});
    });
  }
};

}  // namespace detail

// Throws errc::missing for an empty list, errc::shape for layers of different widths.
template <storage T>
any_layer<T> schedule(std::vector<any_layer<T>> layers) {
  return any_layer<T>(std::make_shared<detail::layer_list<T>>(std::move(layers)));
}

}  // namespace WEFT_ISA
}  // namespace weft
