// Gradients of layers behind one type, and a registry of such layers.
#pragma once
#include "any_layer.hpp"
#include "layer_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class X, class P>
std::vector<named_numbers<X>> list_numbers(P& parameters) {
  std::vector<named_numbers<X>> list;
  for_each_parameter(parameters, [&](const std::string& name, auto& a) {
    list.push_back({name, {a.extent().begin(), a.extent().end()}, {a.data(), static_cast<std::size_t>(a.size())}});
  });
  return list;
}

template <class P, class R>
struct parameters_model final : any_parameters<R>::interface {
  P parameters;
  explicit parameters_model(P p) : parameters(std::move(p)) {}
  std::unique_ptr<typename any_parameters<R>::interface> clone() const override { return std::make_unique<parameters_model>(parameters); }
  std::vector<named_numbers<R>> list() override { return list_numbers<R>(parameters); }
  const std::type_info& type() const override { return typeid(P); }
  void* value() override { return &parameters; }
};

template <layer_with_gradients L>
struct layer_model_with_gradients final : layer_model<L> {
  using base = typename layer_model<L>::base;
  using T = typename L::storage_type;
  using R = accumulate_t<T>;
  using P = typename L::parameter_gradients;
  using G = typename L::state_gradient;
  using layer_model<L>::layer_model;
  using layer_model<L>::layer;

  std::shared_ptr<typename base::interface> clone() const override { return std::make_shared<layer_model_with_gradients>(layer); }
  std::vector<named_numbers<T>> parameters() override {
    static_assert(std::is_same_v<T, R>, "weft: parameters are trained in float or double: erase a layer of one of these with its gradients");
    return list_numbers<T>(layer);
  }
  any_parameters<R> zero_gradients() const override { return any_parameters<R>(std::make_unique<parameters_model<P, R>>(weft::zero_gradients(layer))); }
  any_state zero_state_gradient(any_state& of) const override { return any_state(std::make_unique<state_model<G>>(weft::zero_state_gradient(layer, this->own(of)))); }
  void record(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out, tape& tape, std::span<const index> cu) const override {
    weft::scan(executor, layer, in, this->own(s), out, tape, cu);
  }
  void vjp(cpu& executor, const typename base::inputs& in, const tape& tape, const typename base::cotangents& d_out, any_state& d_state,
           const typename base::gradients& d_in) const override {
    G none{};
    require(d_state.empty() || d_state.get()->type() == typeid(G), errc::value, "d_state: expected one that zero_state_gradient made for this kind of layer (",
            detail::kind_of(zero_kind()), "), got ", detail::kind_of(d_state));
    typename L::gradients own{.x = d_in.x};
    if (d_in.parameters) {
      require(!d_in.parameters->empty() && d_in.parameters->get()->type() == typeid(P), errc::value,
              "gradients of the parameters: expected those that zero_gradients made for this kind of layer, got ", d_in.parameters->empty() ? "empty ones" : "another kind's");
      own.parameters = static_cast<P*>(d_in.parameters->get()->value());
    }
    weft::vjp(executor, layer, in, tape, d_out, d_state.empty() ? none : *static_cast<G*>(d_state.get()->value()), own);
  }

 private:
  any_state zero_kind() const { return any_state(std::make_unique<state_model<G>>(weft::zero_state_gradient(layer, layer.state({})))); }
};

}  // namespace detail

// A layer of float or double with its gradients.
template <layer_with_gradients L>
any_layer<typename L::storage_type> erase_with_gradients(L l) {
  return any_layer<typename L::storage_type>(std::make_shared<detail::layer_model_with_gradients<L>>(std::move(l)));
}

}  // namespace WEFT_ISA
}  // namespace weft
