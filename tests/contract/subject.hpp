// A mixer with its type taken away, so that the checks are compiled once and cost no time a mixer.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include <weft/core/executor.hpp>
#include <weft/core/state.hpp>
#include <weft/core/tape.hpp>

#include "problem.hpp"

namespace contract {

enum class verb { scan, step, literal };

// A state of any type.
class any_state {
 public:
  virtual ~any_state() = default;
  virtual std::vector<tensor> parts() = 0;
  virtual std::unique_ptr<any_state> copy() const = 0;
  virtual std::unique_ptr<any_state> move() = 0;
  virtual std::unique_ptr<any_state> gather(const std::vector<index>& rows) const = 0;
  virtual void save(const std::filesystem::path&) const = 0;

  std::vector<double> values() {
    std::vector<double> all;
    for (const tensor& t : parts()) {
      const auto v = t.get();
      all.insert(all.end(), v.begin(), v.end());
    }
    return all;
  }
};

class subject {
 public:
  virtual ~subject() = default;

  std::string name;
  bool exact = true;        // integers in, integers out
  bool contained = true;    // a NaN stays with its own head
  bool causal = true;       // an output reads no later token
  double bound = 16;        // of the largest error, in epsilons of the accumulating type times the largest number
  // The policy's own idea of its inputs, after the usual one by names and roles.
  std::function<void(problem&, dice&)> adapt = [](problem&, dice&) {};
  // Moves the inputs off the points where the mixer has no derivative: kinks of a relu or a clamp, ties of a selection.
  std::function<void(problem&, dice&)> smooth = [](problem&, dice&) {};
  bool selects = false;     // reads what scores best: rounding may change what that is
  std::string linear;       // the input that outputs and state are linear in, if any

  virtual std::size_t inputs() const = 0;
  virtual input_info info(std::size_t i) const = 0;
  virtual element storage() const = 0;
  virtual element accumulator() const = 0;
  virtual element state_storage() const = 0;
  virtual std::vector<axis> output_axes() const = 0;
  virtual bool keys_erase() const = 0;      // integers stay integers only with one-hot keys
  virtual bool free_state() const = 0;      // any numbers are a state
  virtual bool rounds_state() const { return false; }  // once a call: a state narrower than what it is computed in
  virtual bool may_alias(std::size_t input) const = 0;
  virtual index grid(const sizes&) const = 0;  // tokens between which splits are bit-equal; 0: none
  virtual void size(sizes&, dice&) const = 0;  // what the mixer fixes: micro-steps, taps, a cache's capacity
  virtual std::unique_ptr<any_state> state(const sizes&) const = 0;
  virtual std::unique_ptr<any_state> restore(const std::filesystem::path&) const = 0;
  virtual std::unique_ptr<subject> wide() const = 0;  // the same mixer over double
  virtual std::unique_ptr<subject> integral() const = 0;  // the same with options that keep integers integral
  virtual void run(verb, weft::cpu&, const std::vector<tensor>& in, any_state&, const tensor& out, std::span<const index> cu) const = 0;

  // Of mixers that have gradients: zeros for the state's; the scan that leaves a tape; and the way back. A tensor of `d_in`
  // without data is not wanted.
  virtual bool has_gradients() const { return false; }
  virtual bool linear_state() const { return false; }  // outputs and state are linear in the first part of the state before
  virtual std::unique_ptr<any_state> state_gradient(const any_state&) const { throw std::logic_error("no gradients"); }
  virtual void record(weft::cpu&, const std::vector<tensor>&, any_state&, const tensor&, weft::tape&, std::span<const index>) const {}
  virtual void vjp(weft::cpu&, const std::vector<tensor>& /*in*/, const weft::tape&, const tensor& /*d_o*/, any_state& /*d_state*/,
                   const std::vector<tensor>& /*d_in*/) const {}
  // What weft::gradient_memory tells of these calls; twice, where a formula of the sizes tells it too.
  virtual std::vector<weft::gradient_bytes> gradient_memory(const weft::cpu&, const sizes&, const std::vector<tensor>& /*in*/, const any_state&, const tensor& /*o*/,
                                                            const tensor& /*d_o*/, const std::vector<tensor>& /*d_in*/, index /*every*/) const { return {}; }

  double epsilon() const { return accumulator() == element::f64 ? 0x1p-52 : 0x1p-23; }
  std::vector<index> output_extents(const sizes& s) const {
    std::vector<index> e;
    for (const axis a : output_axes()) e.push_back(s.extent(a));
    return e;
  }
};

using subjects = std::vector<std::unique_ptr<subject>>;
inline subjects& all_subjects() {
  static subjects list;
  return list;
}

}  // namespace contract
