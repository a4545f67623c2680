// A mixer on the GPU as a subject of the contract suite; its definition is the host's.
#pragma once
#include "../contract/adapt.hpp"
#include "../contract/mixer_subject.hpp"
#include "device_run.hpp"

namespace contract {

// The definition alone: what the device is held against. (mixer_subject would compile the CPU's engines for every mixer.)
template <class M>
class literal_subject : public subject {
  using F = family<M>;
  using T = typename M::storage_type;
  using state_type = typename M::state_type;

 public:
  explicit literal_subject(M m) : mixer(std::move(m)) {}

  std::size_t inputs() const override { return F::inputs; }
  input_info info(std::size_t i) const override { return F::info(i); }
  element storage() const override { return element_of<T>(); }
  element accumulator() const override { return element_of<weft::accumulate_t<T>>(); }
  element state_storage() const override {
    state_of<state_type> s(mixer.state(weft::shape{}));
    return s.parts().front().type;
  }
  std::vector<axis> output_axes() const override { return F::output_axes(); }
  bool keys_erase() const override { return F::erases; }
  bool free_state() const override { return F::free_state; }
  bool may_alias(std::size_t i) const override { return F::may_alias(i); }
  index grid(const sizes&) const override { return F::free_state ? 1 : 0; }  // the keys of a call lie in tiles from its beginning
  void size(sizes& s, dice& d) const override { F::size(mixer, s, d); }
  std::unique_ptr<any_state> state(const sizes& s) const override { return std::make_unique<state_of<state_type>>(mixer.state(F::shape(s))); }
  std::unique_ptr<any_state> restore(const std::filesystem::path& path) const override {
    return std::make_unique<state_of<state_type>>(weft::restore(mixer, path));
  }
  std::unique_ptr<subject> wide() const override {
    auto w = F::wide(mixer);
    return like(std::make_unique<literal_subject<decltype(w)>>(std::move(w)));
  }
  std::unique_ptr<subject> integral() const override { return like(std::make_unique<literal_subject>(F::integral(mixer))); }
  void run(verb v, weft::cpu&, const std::vector<tensor>& in, any_state& s, const tensor& out, std::span<const index> cu) const override {
    if (v != verb::literal) throw std::logic_error("a reference has no engine");
    weft::literal(mixer, views_of(in), state_in(s), outputs_for(out), cu);
  }

  M mixer;

 protected:
  static typename M::inputs views_of(const std::vector<tensor>& in) {
    typename M::inputs views;
    weft::for_each_member(views, [&](auto& x, auto i) { x = in[i].template as<std::remove_cvref_t<decltype(x)>>(); });
    return views;
  }
  static typename M::outputs outputs_for(const tensor& out) {
    typename M::outputs to{};
    if (out.type == element_of<T>()) to.o = out.as<weft::view<T, 4>>();
    else to.o = out.as<weft::view<typename M::real, 4>>();
    return to;
  }
  static state_type& state_in(any_state& s) { return dynamic_cast<state_of<state_type>&>(s).value; }
  template <class S>
  std::unique_ptr<subject> like(std::unique_ptr<S> s) const {
    s->name = name, s->exact = exact, s->contained = contained, s->bound = bound, s->adapt = adapt;
    return s;
  }
};

template <class M>
class device_subject : public literal_subject<M> {
  using base = literal_subject<M>;

 public:
  using base::base;

  std::unique_ptr<subject> integral() const override { return this->like(std::make_unique<device_subject>(family<M>::integral(this->mixer))); }
  void run(verb v, weft::cpu& on, const std::vector<tensor>& in, any_state& s, const tensor& out, std::span<const index> cu) const override {
    if (v == verb::literal) return base::run(v, on, in, s, out, cu);
    run_on_device(v, this->mixer, base::views_of(in), base::state_in(s), base::outputs_for(out), cu);
  }
};

template <class M>
device_subject<M>& add_on_device(std::string name, M mixer = {}) {
  auto s = std::make_unique<device_subject<M>>(std::move(mixer));
  s->name = std::move(name);
  s->bound *= 2;
  auto& added = *s;
  all_subjects().push_back(std::move(s));
  return added;
}

}  // namespace contract
