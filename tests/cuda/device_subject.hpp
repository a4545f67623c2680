// A mixer on the GPU as a subject of the contract suite; its definition is the host's.
#pragma once
#include "../contract/adapt.hpp"
#include "../contract/mixer_subject.hpp"
#include "device_run.hpp"

namespace contract {

template <class M>
class device_subject : public mixer_subject<M, false> {
  using base = mixer_subject<M, false>;

 public:
  using base::base;

  index grid(const sizes&) const override { return 1; }
  std::unique_ptr<subject> integral() const override {
    auto s = std::make_unique<device_subject>(family<M>::integral(this->mixer));
    s->name = this->name, s->exact = this->exact, s->contained = this->contained, s->bound = this->bound, s->adapt = this->adapt;
    return s;
  }
  void run(verb v, weft::cpu& on, const std::vector<tensor>& in, any_state& s, const tensor& out, std::span<const index> cu) const override {
    if (v == verb::literal) return base::run(v, on, in, s, out, cu);
    typename M::inputs views;
    weft::for_each_member(views, [&](auto& x, auto i) { x = in[i].template as<std::remove_cvref_t<decltype(x)>>(); });
    typename M::outputs to{};
    if (out.type == this->storage()) to.o = out.as<weft::view<typename M::storage_type, 4>>();
    else to.o = out.as<weft::view<typename M::real, 4>>();
    run_on_device(v, this->mixer, views, dynamic_cast<state_of<typename M::state_type>&>(s).value, to, cu);
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
