// Layers and their states behind one type each, for models that mix kinds of layers and for classes known by name only.
// Both are mixers and states like any: scan, step, gather, save and restore.
#pragma once
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "../io/state_file.hpp"
#include "any_parameters.hpp"
#include "layer.hpp"

namespace weft {
inline namespace v1 {

// A value: copying copies the state.
class any_state {
 public:
  struct interface {
    virtual ~interface() = default;
    virtual std::unique_ptr<interface> clone() const = 0;
    virtual std::unique_ptr<interface> gather(std::span<const index> rows) const = 0;
    virtual std::vector<tensor> parts() const = 0;
    // The state itself. What holds it differs between files of two instruction sets; its type does not.
    virtual const std::type_info& type() const = 0;
    virtual void* value() = 0;
  };

  any_state() = default;
  explicit any_state(std::unique_ptr<interface> s) : state_(std::move(s)) {}
  any_state(const any_state& other) : state_(other.state_ ? other.state_->clone() : nullptr) {}
  any_state(any_state&&) noexcept = default;
  any_state& operator=(any_state other) noexcept {
    state_ = std::move(other.state_);
    return *this;
  }

  bool empty() const { return !state_; }
  interface* get() { return state_.get(); }
  const interface* get() const { return state_.get(); }
  any_state gather(std::span<const index> rows) const { return any_state(state_ ? state_->gather(rows) : nullptr); }
  // The parts as tensors that point into this state: name, type, shape, data.
  std::vector<tensor> parts() const { return state_ ? state_->parts() : std::vector<tensor>(); }
  index bytes() const {
    index n = 0;
    for (const tensor& t : parts()) n += t.bytes();
    return n;
  }

 private:
  std::unique_ptr<interface> state_;
};

template <storage T>
class any_layer {
 public:
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = any_state;
  using storage_type = T;
  using cotangents = hidden_cotangents<T>;
  using gradients = hidden_gradients<T, any_parameters<accumulate_t<T>>>;
  using state_gradient = any_state;  // empty: a gradient of zero, and none is wanted

  struct interface {
    virtual ~interface() = default;
    virtual std::shared_ptr<interface> clone() const = 0;
    virtual index hidden() const = 0;
    virtual bool rehearses() const = 0;  // whether its calls are all or nothing (layer.hpp)
    virtual bool published_state_is_transposed() const = 0;
    virtual any_state state(const shape& s) const = 0;
    virtual void make_room(any_state& s, index tokens) const = 0;
    virtual any_state restore(const tensor_file& file, const std::string& prefix) const = 0;
    virtual void scan(cpu& executor, const inputs& in, any_state& state, const outputs& out, std::span<const index> cu) const = 0;
    virtual void step(cpu& executor, const inputs& in, any_state& state, const outputs& out) const = 0;
    // Of layers erased by erase_with_gradients (any_layer_vjp.hpp); others throw errc::unsupported.
    virtual std::vector<named_numbers<T>> parameters() = 0;
    virtual any_parameters<accumulate_t<T>> zero_gradients() const = 0;
    virtual any_state zero_state_gradient(any_state& of) const = 0;
    virtual void record(cpu& executor, const inputs& in, any_state& state, const outputs& out, tape& tape, std::span<const index> cu) const = 0;
    virtual void vjp(cpu& executor, const inputs& in, const tape& tape, const cotangents& d_out, any_state& d_state, const gradients& d_in) const = 0;
  };

  any_layer() = default;
  explicit any_layer(std::shared_ptr<interface> l) : layer_(std::move(l)) {}

  const interface& get() const {
    if (!layer_) throw error(errc::missing, "weft: any_layer: expected a layer, got an empty one");
    return *layer_;
  }
  index hidden() const { return get().hidden(); }
  any_state state(const shape& s) const { return get().state(s); }
  // Grows what a state keeps of every token, so that it can take so many more; a fixed state needs no room.
  void make_room(any_state& s, index tokens) const { get().make_room(s, tokens); }

  // Writable views of all parameters, by name. Copies of a layer share it until one asks for these.
  std::vector<named_numbers<T>> parameters() {
    get();
    if (layer_.use_count() > 1) layer_ = layer_->clone();
    return layer_->parameters();
  }
  any_parameters<accumulate_t<T>> zero_gradients() const { return get().zero_gradients(); }
  any_state zero_state_gradient(any_state& of) const { return get().zero_state_gradient(of); }

 private:
  std::shared_ptr<interface> layer_;
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class S>
struct state_model final : any_state::interface {
  S state;
  explicit state_model(S s) : state(std::move(s)) {}
  std::unique_ptr<any_state::interface> clone() const override { return std::make_unique<state_model>(state); }
  std::unique_ptr<any_state::interface> gather(std::span<const index> rows) const override { return std::make_unique<state_model>(state.gather(rows)); }
  std::vector<tensor> parts() const override {
    std::vector<tensor> all;
    io::for_each_array(state, std::string(), [&](const std::string& name, const auto& a) {
      using element = typename std::remove_cvref_t<decltype(a)>::element;
      if (!a.null())
        all.push_back({.name = name, .type = dtype_of<element>, .shape = {a.extent().begin(), a.extent().end()}, .data = reinterpret_cast<const std::byte*>(a.data())});
    });
    return all;
  }
  const std::type_info& type() const override { return typeid(S); }
  void* value() override { return &state; }
};

// "keys F32, values F32, length I64"
inline std::string kind_of(const any_state& s) {
  std::string kind;
  for (const tensor& t : s.parts()) kind += (kind.empty() ? "" : ", ") + t.name + " " + std::string(dtype_name(t.type));
  return kind.empty() ? "an empty one" : kind;
}

// The sequences of a state: the first dimension of its parts.
template <class S>
index sequences_of(const S& s) {
  index n = 0;
  for_each_part(s, [&](const auto& p) {
    if (!p.data.null()) n = p.data.extent(0);
  });
  return n;
}

template <layer L>
struct layer_model : any_layer<typename L::storage_type>::interface {
  using base = any_layer<typename L::storage_type>;
  using state_type = typename L::state_type;
  L layer;
  explicit layer_model(L l) : layer(std::move(l)) {}

  state_type& own(any_state& s) const {
    if (s.empty() || s.get()->type() != typeid(state_type))
      fail(errc::value, "state: expected one that this kind of layer made (", kind_of(state({})), "), got ", kind_of(s));
    return *static_cast<state_type*>(s.get()->value());
  }
  [[noreturn]] static void no_gradients() { fail(errc::unsupported, "this kind of layer was erased without its gradients: expected erase_with_gradients"); }
  static any_state hide(state_type s) { return any_state(std::make_unique<state_model<state_type>>(std::move(s))); }

  index hidden() const override { return layer.hidden(); }
  bool rehearses() const override {
    if constexpr (requires { L::rehearses; }) return L::rehearses;
    else return false;
  }
  bool published_state_is_transposed() const override {
    if constexpr (requires { L::published_state_is_transposed; }) return L::published_state_is_transposed;
    else return false;
  }
  any_state state(const shape& s) const override { return hide(layer.state(s)); }
  void make_room(any_state& s, index tokens) const override {
    if constexpr (requires(state_type& own_state) { layer.make_room(own_state, tokens); }) layer.make_room(own(s), tokens);
  }
  any_state restore(const tensor_file& file, const std::string& prefix) const override {
    state_type s = restore_parts(layer, file, prefix);
    layer.check_state(s, sequences_of(s));
    return hide(std::move(s));
  }
  void scan(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out, std::span<const index> cu) const override {
    weft::scan(executor, layer, in, own(s), out, cu);
  }
  void step(cpu& executor, const typename base::inputs& in, any_state& s, const typename base::outputs& out) const override {
    weft::step(executor, layer, in, own(s), out);
  }
  std::shared_ptr<typename base::interface> clone() const override { return std::make_shared<layer_model>(layer); }
  std::vector<named_numbers<typename L::storage_type>> parameters() override { no_gradients(); }
  any_parameters<accumulate_t<typename L::storage_type>> zero_gradients() const override { no_gradients(); }
  any_state zero_state_gradient(any_state&) const override { no_gradients(); }
  void record(cpu&, const typename base::inputs&, any_state&, const typename base::outputs&, tape&, std::span<const index>) const override { no_gradients(); }
  void vjp(cpu&, const typename base::inputs&, const tape&, const typename base::cotangents&, any_state&, const typename base::gradients&) const override { no_gradients(); }
};

}  // namespace detail

template <layer L>
any_layer<typename L::storage_type> erase_type(L l) {
  return any_layer<typename L::storage_type>(std::make_shared<detail::layer_model<L>>(std::move(l)));
}

template <storage T>
void run_scan(cpu& executor, const any_layer<T>& l, const hidden_inputs<T>& in, any_state& state, const hidden_outputs<T>& out, std::span<const index> cu) {
  l.get().scan(executor, in, state, out, cu);
}
template <storage T>
void run_step(cpu& executor, const any_layer<T>& l, const hidden_inputs<T>& in, any_state& state, const hidden_outputs<T>& out) {
  l.get().step(executor, in, state, out);
}

template <storage T>
void run_record(cpu& executor, const any_layer<T>& l, const hidden_inputs<T>& in, any_state& state, const hidden_outputs<T>& out, tape& tape, std::span<const index> cu) {
  l.get().record(executor, in, state, out, tape, cu);
}
template <storage T>
void run_vjp(cpu& executor, const any_layer<T>& l, const hidden_inputs<T>& in, const tape& tape, const hidden_cotangents<T>& d_out, any_state& d_state,
             const typename any_layer<T>::gradients& d_in) {
  l.get().vjp(executor, in, tape, d_out, d_state, d_in);
}

// Adds the parts as "prefix.part".
inline void save_parts(const any_state& s, tensor_writer& writer, const std::string& prefix) {
  for (const tensor& t : s.parts()) writer.add(io::join(prefix, t.name), t.type, t.shape, t.data);
}
// A state of this layer from the tensors "prefix.part". Throws as restore_parts, and errc::shape for another layer's.
template <storage T>
any_state restore_parts(const any_layer<T>& l, const tensor_file& file, const std::string& prefix) { return l.get().restore(file, prefix); }

}  // namespace WEFT_ISA
}  // namespace weft
