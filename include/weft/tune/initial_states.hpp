// Tuned initial states, "S0": what a frozen layer's state is before position 0, instead of zeros.
//
//   S_0 = factor S           or  factor S / |S|_F  with `normalise`          S: raw, one a layer, shared by all sequences
//
// A state is a value: a request that wants the tuned one starts from it, another from zeros, and no weight, no later token and
// no later piece of a prompt knows. Method and defaults: S0 tuning, github.com/jackyoung27/s0-tuning.
#pragma once
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "state_numbers.hpp"
#include "trained.hpp"

namespace weft {
inline namespace v1 {

// Where the factor and the norm act: the published text says at both, the published code when deploying.
enum class scale_at { deploy_only, train_and_deploy };

struct state_scale {
  double factor = 0.07;    // 0.07 for delta rules, 0.65 for Mamba-2, as published
  bool normalise = false;  // a layer's tensors to a common norm of 1 before the factor; of zeros nothing
  scale_at where = scale_at::deploy_only;
};

// S: layer_state, recurrent_state, key_value_cache (whose keys and values are then virtual ones), any_state ...
template <class S>
struct initial_states {
  std::map<index, S> raw;  // by the number of the layer: the state of one sequence
  state_scale scale{};
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

inline bool is_real_type(dtype t) { return t == dtype::f64 || t == dtype::f32; }

template <class R, class F>
void for_each_number(const std::vector<tensor>& parts, F&& f) {
  for (const tensor& t : parts)
    if (t.type == dtype_of<R>)
      for (R& x : numbers_of<R>(t)) f(x);
}
template <class R>
double norm_of(const std::vector<tensor>& parts) {
  double sum = 0;
  for_each_number<R>(parts, [&](R x) { sum += static_cast<double>(x) * static_cast<double>(x); });
  return std::sqrt(sum);
}

// The sum over the sequences of a gradient, of a state of these extents. A cache may have grown since: its first slots count.
template <class R>
std::vector<R> sum_of_sequences(const tensor& d, const std::vector<index>& raw, index layer) {
  constexpr std::size_t slots = 2;
  const bool cache = d.name == "keys" || d.name == "values";
  bool fits = d.shape.size() == raw.size();
  for (std::size_t i = 1; fits && i < raw.size(); ++i) fits = d.shape[i] == raw[i] || (cache && i == slots && d.shape[i] > raw[i]);
  require(fits, errc::shape, "gradient of the initial state of layer ", layer, ": ", d.name, ": expected ", check::list(raw), " for every sequence, got ", check::list(d.shape));
  const index run = cache ? raw[2] * raw[3] : d.count() / std::max<index>(1, d.shape[0]), stride = cache ? d.shape[2] * d.shape[3] : run;
  index size = 1;
  for (const index e : raw) size *= e;
  std::vector<R> sum(static_cast<std::size_t>(size));
  const auto* const from = reinterpret_cast<const R*>(d.data);
  const index runs = size / std::max<index>(1, run);
  for (index n = 0; n < d.shape[0]; ++n)
    for (index r = 0; r < runs; ++r)
      for (index c = 0; c < run; ++c) sum[static_cast<std::size_t>(r * run + c)] += from[(n * runs + r) * stride + c];
  return sum;
}

// The factor on a layer's raw numbers.
template <class R, class S>
double scale_of(const S& raw, const state_scale& scale) {
  const double norm = scale.normalise ? norm_of<R>(parts_of(raw)) : 0.0;
  return norm > 0 ? scale.factor / norm : scale.factor;
}
template <class R, class S>
S scaled(S raw, double factor) {
  for_each_number<R>(parts_of(raw), [&](R& x) { x *= static_cast<R>(factor); });
  return raw;
}

}  // namespace detail

// What layer `layer` starts from where the set is deployed: the state of one sequence. Numbers of type R are scaled.
template <class R, class S>
S deployed(const initial_states<S>& set, index layer) {
  const auto at = set.raw.find(layer);
  require(at != set.raw.end(), errc::missing, "layer ", layer, ": expected a tuned initial state, got none");
  return detail::scaled<R>(at->second, detail::scale_of<R>(at->second, set.scale));
}

// The start of a batch whose row n is served by *rows[n]: several tuned sets in one batch, and null for none. Nothing where no
// row's set tunes this layer: start from the layer's own zeros. A cache has room for its virtual tokens alone: make_room.
// Throws errc::shape where the sets' states differ in kind or extents, naming the row and the layer.
template <class R, class S>
std::optional<S> start(index layer, std::span<const initial_states<S>* const> rows) {
  std::map<const initial_states<S>*, S> ready;
  for (const auto* set : rows)
    if (set && set->raw.contains(layer) && !ready.contains(set)) ready.emplace(set, deployed<R>(*set, layer));
  if (ready.empty()) return {};
  S batch = ready.begin()->second.gather(std::vector<index>(rows.size(), 0));
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const auto at = ready.find(rows[n]);
    set_row(batch, static_cast<index>(n), at == ready.end() ? nullptr : &at->second, "initial state of row " + std::to_string(n) + ", layer " + std::to_string(layer));
  }
  return batch;
}

// Trains a set: its raw numbers, and the gradients that vjp gives of what the layers start from.
//
//   list() for tune(); in its loss: state = start(layer, sequences), scan with a tape, vjp with d_state, add(layer, d_state)
//
// The parts that are trained are those that f(name) picks: by default all but the inputs of a convolution.
template <class R, class S>
class state_training {
 public:
  template <class F>
  state_training(initial_states<S>& set, F&& picks) : set_(&set) {
    for (auto& [layer, raw] : set.raw) {
      S d = raw;
      clear(d);
      entry& e = entries_.emplace(layer, entry{std::move(d), {}}).first->second;
      for (const tensor& t : parts_of(e.gradient))
        if (t.type == dtype_of<R> && picks(t.name)) e.names.push_back(t.name);
      require(!e.names.empty(), errc::value, "layer ", layer, ": expected a state with a part of ", dtype_name(dtype_of<R>), " to train, got none");
    }
  }
  explicit state_training(initial_states<S>& set) : state_training(set, [](const std::string& name) { return name != "conv"; }) {}
  state_training(const state_training&) = delete;  // its list points into it

  bool tunes(index layer) const { return entries_.contains(layer); }
  // The layers below this one never change: their outputs may be kept from step to step.
  index lowest() const { return entries_.empty() ? 0 : entries_.begin()->first; }

  std::vector<trained<R>> list() {
    std::vector<trained<R>> all;
    for (auto& [layer, e] : entries_) {
      const auto raw = parts_of(set_->raw.at(layer)), d = parts_of(e.gradient);
      for (std::size_t i = 0; i < d.size(); ++i)
        if (std::find(e.names.begin(), e.names.end(), d[i].name) != e.names.end())
          all.push_back({"layers." + std::to_string(layer) + "." + d[i].name, numbers_of<R>(raw[i]), numbers_of<R>(d[i])});
    }
    return all;
  }

  // What a batch of so many sequences starts from while the set is trained.
  S start(index layer, index sequences) const {
    const S& raw = set_->raw.at(layer);
    return (scales() ? detail::scaled<R>(raw, detail::scale_of<R>(raw, set_->scale)) : raw).gather(std::vector<index>(static_cast<std::size_t>(sequences), 0));
  }

  // Adds the sum over all sequences of the gradient of what they started from; parts of d_state that are not trained are passed over.
  // Throws errc::missing for a gradient without a trained part, errc::shape for other extents.
  template <class D>
  void add(index layer, const D& d_state) {
    entry& e = entries_.at(layer);
    const S& raw = set_->raw.at(layer);
    const double factor = scales() ? detail::scale_of<R>(raw, set_->scale) : 1.0, norm = scales() && set_->scale.normalise ? detail::norm_of<R>(parts_of(raw)) : 0.0;
    const auto given = parts_of(d_state), raw_parts = parts_of(raw), to = parts_of(e.gradient);
    std::vector<std::vector<R>> sums(to.size());
    double along = 0;  // of the raw numbers
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (std::find(e.names.begin(), e.names.end(), to[i].name) == e.names.end()) continue;
      const auto d = std::find_if(given.begin(), given.end(), [&](const tensor& t) { return t.name == to[i].name; });
      require(d != given.end(), errc::missing, "gradient of the initial state of layer ", layer, ": expected a part ", to[i].name, ", got none");
      require(d->type == dtype_of<R>, errc::unsupported, "gradient of the initial state of layer ", layer, ": ", d->name, ": expected ", dtype_name(dtype_of<R>), ", got ", dtype_name(d->type));
      sums[i] = detail::sum_of_sequences<R>(*d, to[i].shape, layer);
      const auto x = numbers_of<R>(raw_parts[i]);
      for (std::size_t c = 0; norm > 0 && c < x.size(); ++c) along += static_cast<double>(sums[i][c]) * static_cast<double>(x[c]);
    }
    const double less = norm > 0 ? along / (norm * norm) : 0.0;  // numbers that are normalised have no gradient along themselves
    for (std::size_t i = 0; i < to.size(); ++i)
      for (std::size_t c = 0; c < sums[i].size(); ++c)
        numbers_of<R>(to[i])[c] += static_cast<R>(factor * (static_cast<double>(sums[i][c]) - less * static_cast<double>(numbers_of<R>(raw_parts[i])[c])));
  }

 private:
  struct entry {
    S gradient;
    std::vector<std::string> names;
  };
  bool scales() const { return set_->scale.where == scale_at::train_and_deploy; }

  initial_states<S>* set_;
  std::map<index, entry> entries_;
};

}  // namespace WEFT_ISA
}  // namespace weft
