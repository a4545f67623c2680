// Every mixer as a subject. One line registers a mixer:  const auto kda = contract::add<weft::kda>("kda");
#pragma once
#include <numeric>

#include <weft/layer/short_conv_vjp.hpp>
#include <weft/weft.hpp>

#include "subject.hpp"

namespace contract {

template <class S>
class state_of : public any_state {
 public:
  explicit state_of(S s) : value(std::move(s)) {}
  std::vector<tensor> parts() override {
    std::vector<tensor> all;
    weft::for_each_part(value, [&](const auto& p) {
      if (p.data.null()) return;
      const auto& e = p.data.extent();
      tensor t{element_of<std::remove_cvref_t<decltype(*p.data.data())>>(), reinterpret_cast<std::byte*>(p.data.data()), {e.begin(), e.end()}, {}};
      t.stride = row_major(t.extent);
      all.push_back(std::move(t));
    });
    return all;
  }
  std::unique_ptr<any_state> copy() const override { return std::make_unique<state_of>(value); }
  std::unique_ptr<any_state> move() override { return std::make_unique<state_of>(std::move(value)); }
  std::unique_ptr<any_state> gather(const std::vector<index>& rows) const override {
    return std::make_unique<state_of>(value.gather(std::span<const index>(rows)));
  }
  void save(const std::filesystem::path& path) const override { weft::save(value, path); }

  S value;
};

inline input_info info_of(const weft::role& r, std::string_view name, bool optional, element type) {
  input_info i{name, optional, r.micro, type, {}};
  if (r.time) i.axes = {axis::batch, axis::time};
  i.axes.push_back(r.heads == weft::per_head::key ? axis::key_head : axis::value_head);
  if (r.width == weft::width::key_dim) i.axes.push_back(axis::key_dim);
  if (r.width == weft::width::value_dim) i.axes.push_back(axis::value_dim);
  return i;
}
inline std::pair<std::string_view, bool> split_mark(std::string_view name) {
  const bool optional = name.ends_with('?');
  return {optional ? name.substr(0, name.size() - 1) : name, optional};
}

// A view, or an output or a gradient of either type that it takes, at a tensor.
template <class To>
void aim(To& to, const tensor& at) {
  if constexpr (requires { to.narrow_view(); }) {
    using narrow = decltype(to.narrow_view());
    if (at.type == element_of<typename narrow::element>()) to = at.as<narrow>();
    else to = at.as<decltype(to.wide_view())>();
  } else {
    to = at.as<To>();
  }
}
// The members of a struct of inputs or gradients at the tensors from `first` on.
template <class Members>
void aim_all(Members& members, const std::vector<tensor>& at, std::size_t first = 0) {
  weft::for_each_member(members, [&](auto& x, auto i) { aim(x, at[first + i]); });
}

// What the checks need to know of a family of mixers.
template <class M>
struct family;

template <class P, class T, class S>
struct family<weft::recurrence<P, T, S>> {
  using M = weft::recurrence<P, T, S>;
  static constexpr std::size_t inputs = weft::input_count<P>;
  static constexpr bool free_state = true, linear_state = true, erases = P::axes.erase != weft::erase::none, rounds_state = !std::is_same_v<S, weft::accumulate_t<T>>;
  static std::vector<axis> output_axes() { return {axis::batch, axis::time, axis::value_head, axis::value_dim}; }
  static input_info info(std::size_t wanted) {
    input_info found;
    typename M::inputs in;
    weft::for_each_member(in, [&](const auto& v, auto i) {
      using view = std::remove_cvref_t<decltype(v)>;
      if (i == wanted) found = info_of(view::role, weft::name_of<P>(i).text, weft::name_of<P>(i).optional, element_of<std::remove_const_t<typename view::element>>());
    });
    return found;
  }
  static bool may_alias(std::size_t i) {
    const input_info x = info(i);
    return x.axes.size() == 4 && x.type == element_of<T>() && !x.micro;
  }
  // Chunks are of rows; a token is `micro` rows.
  static index grid(const M&, const sizes& s) {
    if (rounds_state) return 0;
    const bool fast = std::is_same_v<weft::accumulate_t<T>, float> && (s.key_dim == 64 || s.key_dim == 128);
    const index rows = weft::token_grid<weft::accumulate_t<T>>(P::axes.erase, fast ? static_cast<int>(s.key_dim) : 0);
    return std::lcm(rows, s.micro) / s.micro;
  }
  static void size(const M& m, sizes& s, dice&) { s.micro = P::axes.micro_steps ? m.micro_steps : 1; }
  static weft::shape shape(const sizes& s) {
    return {.batch = s.sequences(), .heads = s.heads * s.group, .key_dim = s.key_dim, .value_dim = s.value_dim};
  }
  static auto wide(const M& m) {
    weft::recurrence<P, double> w;
    w.policy = m.policy, w.scale = m.scale, w.qk_l2norm = m.qk_l2norm, w.l2norm_eps = m.l2norm_eps;
    w.micro_steps = m.micro_steps, w.normaliser_eps = m.normaliser_eps;
    return w;
  }
  static M integral(M m) {
    m.scale = 1.0;
    m.qk_l2norm = false;
    return m;
  }
};

template <class T, class Selector>
struct family<weft::attention<T, Selector>> {
  using M = weft::attention<T, Selector>;
  static constexpr std::size_t inputs = 4;
  static constexpr bool free_state = false, erases = false;
  static std::vector<axis> output_axes() { return {axis::batch, axis::time, axis::value_head, axis::value_dim}; }
  static input_info info(std::size_t i) {
    const auto [name, optional] = split_mark(M::names[i]);
    const weft::role roles[] = {weft::roles::query, weft::roles::key, weft::roles::read_value, weft::roles::head};
    return info_of(roles[i], name, optional, i == 3 ? element_of<weft::accumulate_t<T>>() : element_of<T>());
  }
  static bool may_alias(std::size_t i) { return i == 0 || i == 2; }
  static index grid(const M&, const sizes&) { return 0; }
  static void size(const M& m, sizes& s, dice& d) {
    if (m.select.retained().last == weft::every_key) s.capacity = 2 * s.time + 40 + d.below(20);
    else s.capacity = d.one_in(3) ? s.time + 40 + d.below(9) : 0;
  }
  static weft::shape shape(const sizes& s) {
    return {.batch = s.sequences(), .heads = s.heads, .key_dim = s.key_dim, .value_dim = s.value_dim, .capacity = s.capacity};
  }
  static auto wide(const M& m) {
    weft::attention<double, Selector> w;
    w.select = m.select, w.scale = m.scale, w.softcap = m.softcap, w.causal = m.causal;
    return w;
  }
  static M integral(M m) { return m; }
};

template <class T>
struct family<weft::short_conv<T>> {
  using M = weft::short_conv<T>;
  static constexpr std::size_t inputs = 3;
  static constexpr bool free_state = true, linear_state = true, erases = false;
  static std::vector<axis> output_axes() { return {axis::batch, axis::time, axis::value_dim}; }
  static input_info info(std::size_t i) {
    const element t = element_of<T>();
    if (i == 0) return {"x", false, false, t, {axis::batch, axis::time, axis::value_dim}};
    if (i == 1) return {"weight", false, false, t, {axis::value_dim, axis::taps}};
    return {"bias", true, false, t, {axis::value_dim}};
  }
  static bool may_alias(std::size_t) { return false; }
  static index grid(const M&, const sizes&) { return 1; }
  static void size(const M& m, sizes& s, dice&) { s.taps = m.taps; }
  static weft::shape shape(const sizes& s) { return {.batch = s.sequences(), .value_dim = s.value_dim}; }
  static auto wide(const M& m) { return weft::short_conv<double>{m.taps, m.activation}; }
  static M integral(M m) {
    m.activation = weft::activation::none;
    return m;
  }
};

// The input of values, which most mixers are linear in.
template <class M>
std::string_view linear_input(const M& mixer) {
  if constexpr (requires { mixer.activation; }) return mixer.activation == weft::activation::none ? "x" : "";
  for (std::size_t i = 0; i < family<M>::inputs; ++i)
    if (const input_info x = family<M>::info(i); x.has(axis::value_dim) && x.has(axis::time) && x.type == element_of<typename M::storage_type>()) return x.name;
  return {};
}

// Without Engine only the literal form and the gradients are compiled: what the others are held against.
template <class M, bool Engine = true>
class mixer_subject : public subject {
  using F = family<M>;
  using T = typename M::storage_type;
  using R = weft::accumulate_t<T>;
  using state_type = typename M::state_type;

 public:
  explicit mixer_subject(M m) : mixer(std::move(m)) { linear = linear_input(mixer); }

  std::size_t inputs() const override { return F::inputs; }
  input_info info(std::size_t i) const override { return F::info(i); }
  element storage() const override { return element_of<T>(); }
  element accumulator() const override { return element_of<R>(); }
  element state_storage() const override {
    state_of<state_type> s(mixer.state(weft::shape{}));
    return s.parts().front().type;
  }
  std::vector<axis> output_axes() const override { return F::output_axes(); }
  bool keys_erase() const override { return F::erases; }
  bool free_state() const override { return F::free_state; }
  bool rounds_state() const override {
    if constexpr (requires { F::rounds_state; }) return F::rounds_state;
    return false;
  }
  bool may_alias(std::size_t i) const override { return F::may_alias(i); }
  index grid(const sizes& s) const override { return F::grid(mixer, s); }
  void size(sizes& s, dice& d) const override { F::size(mixer, s, d); }
  std::unique_ptr<any_state> state(const sizes& s) const override {
    return std::make_unique<state_of<state_type>>(mixer.state(F::shape(s)));
  }
  std::unique_ptr<any_state> restore(const std::filesystem::path& path) const override {
    return std::make_unique<state_of<state_type>>(weft::restore(mixer, path));
  }
  std::unique_ptr<subject> wide() const override {
    return like<false>(F::wide(mixer));
  }
  std::unique_ptr<subject> integral() const override { return like<Engine>(F::integral(mixer)); }

  void run(verb v, weft::cpu& on, const std::vector<tensor>& in, any_state& s, const tensor& out, std::span<const index> cu) const override {
    const auto views = views_of(in);
    auto& state = dynamic_cast<state_of<state_type>&>(s).value;
    const auto to = outputs_for(out);
    if (v == verb::literal) return weft::literal(mixer, views, state, to, cu);
    if constexpr (Engine) return v == verb::scan ? weft::scan(on, mixer, views, state, to, cu) : weft::step(on, mixer, views, state, to);
    throw std::logic_error("a reference has no engine");
  }

  bool has_gradients() const override { return differentiable; }
  bool linear_state() const override {
    if constexpr (requires { F::linear_state; }) return F::linear_state && !linear.empty();
    return false;
  }
  std::unique_ptr<any_state> state_gradient(const any_state& of) const override {
    if constexpr (differentiable)
      return std::make_unique<state_of<weft::state_gradient_t<M>>>(weft::zero_state_gradient(mixer, dynamic_cast<const state_of<state_type>&>(of).value));
    return subject::state_gradient(of);
  }
  void record(weft::cpu& on, const std::vector<tensor>& in, any_state& s, const tensor& out, weft::tape& tape, std::span<const index> cu) const override {
    if constexpr (differentiable) weft::scan(on, mixer, views_of(in), dynamic_cast<state_of<state_type>&>(s).value, outputs_for(out), tape, cu);
  }
  void vjp(weft::cpu& on, const std::vector<tensor>& in, const weft::tape& tape, const tensor& d_o, any_state& d_state,
           const std::vector<tensor>& d_in) const override {
    if constexpr (differentiable) {
      const auto [back, to] = gradient_arguments(d_o, d_in);
      weft::vjp(on, mixer, views_of(in), tape, back, dynamic_cast<state_of<weft::state_gradient_t<M>>&>(d_state).value, to);
    }
  }
  std::vector<weft::gradient_bytes> gradient_memory(const weft::cpu& on, const sizes& s, const std::vector<tensor>& in, const any_state& state, const tensor& o,
                                                    const tensor& d_o, const std::vector<tensor>& d_in, index every) const override {
    std::vector<weft::gradient_bytes> told;
    if constexpr (differentiable) {
      const auto [back, to] = gradient_arguments(d_o, d_in);
      told.push_back(weft::gradient_memory(on, mixer, views_of(in), dynamic_cast<const state_of<state_type>&>(state).value, outputs_for(o), back, to, every));
      if constexpr (requires { weft::gradient_memory(on, mixer, F::shape(s), s.time, weft::tape{}, s.heads); })
        told.push_back(weft::gradient_memory(on, mixer, F::shape(s), s.time, weft::tape{.every = every}, s.heads));
    }
    return told;
  }

  M mixer;

 private:
  static constexpr bool differentiable = requires { typename M::gradients; };
  static constexpr int rank = static_cast<int>(std::tuple_size_v<decltype(typename M::outputs{}.o.extent)>);

  static typename M::inputs views_of(const std::vector<tensor>& in) {
    typename M::inputs views;
    if constexpr (requires { F::aim(views, in); }) F::aim(views, in);
    else aim_all(views, in);
    return views;
  }
  static auto gradient_arguments(const tensor& d_o, const std::vector<tensor>& d_in) {
    std::pair<weft::cotangents_t<M>, weft::gradients_t<M>> p{};
    if (d_o.type == element_of<T>()) p.first.o = d_o.as<weft::view<const T, rank>>();
    else p.first.o = d_o.as<weft::view<const R, rank>>();
    if constexpr (requires { F::aim(p.second, d_in); }) F::aim(p.second, d_in);
    else aim_all(p.second, d_in);
    return p;
  }
  static typename M::outputs outputs_for(const tensor& out) {
    typename M::outputs to{};
    aim(to.o, out);
    return to;
  }
  template <bool WithEngine, class N>
  std::unique_ptr<subject> like(N other) const {
    auto s = std::make_unique<mixer_subject<N, WithEngine>>(std::move(other));
    s->name = name, s->exact = exact, s->contained = contained, s->causal = causal, s->bound = bound, s->adapt = adapt;
    s->smooth = smooth, s->selects = selects, s->linear = linear;
    return s;
  }
};

// Registers a mixer; the result takes further settings.
template <class M>
mixer_subject<M>& add(std::string name, M mixer = {}) {
  auto s = std::make_unique<mixer_subject<M>>(std::move(mixer));
  s->name = std::move(name);
  auto& added = *s;
  all_subjects().push_back(std::move(s));
  return added;
}

}  // namespace contract
