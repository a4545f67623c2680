// The one loop by which everything is tuned beside frozen weights: initial states, offsets, prefixes, low-rank weights.
//
//   a step:  g = gradient of the mean loss over all items + 2 l2 p;  g clipped by the norm of all tensors;  Adam
//
// Defaults as published for initial states: 20 steps of 1e-3, l2 of 5e-4 (before clipping), clipped to 1, no schedule.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "adam.hpp"

namespace weft {
inline namespace v1 {

struct tuning_options {
  index steps = 20;
  double rate = 1e-3, l2 = 5e-4, clip = 1.0;
  adam_options adam{};
  std::filesystem::path checkpoint{};  // written after every `checkpoint_every` steps and the last one; empty: none
  index checkpoint_every = 1;
  bool resume = false;                 // go on from the checkpoint
};

struct tuning_report {
  index first_step = 0;        // 0, or where it was resumed
  std::vector<double> losses{};  // before each step made
  double norm = 0;             // of all tensors together, at the end
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// What must be the same for a resumed run to be the run that was stopped.
inline std::vector<std::pair<std::string, double>> tuning_numbers(const tuning_options& o) {
  return {{"rate", o.rate}, {"l2", o.l2}, {"clip", o.clip}, {"beta1", o.adam.beta1}, {"beta2", o.adam.beta2}, {"eps", o.adam.eps}, {"decay", o.adam.decay}};
}
inline std::string exact(double x) {
  std::ostringstream text;
  text << std::hexfloat << x;
  return text.str();
}

template <class R>
void save_checkpoint(const std::filesystem::path& path, std::span<const trained<R>> list, const adam<R>& optimiser, const tuning_options& options) {
  tensor_writer writer;
  writer.metadata("format", "weft.tuning");
  writer.metadata("version", "1");
  for (const auto& [name, x] : tuning_numbers(options)) writer.metadata(name, exact(x));
  for (const auto& p : list) writer.add(io::join("value", p.name), dtype_of<R>, {static_cast<index>(p.value.size())}, p.value.data());
  optimiser.save_parts(writer);
  writer.write(path);
}

template <class R>
void restore_checkpoint(const std::filesystem::path& path, std::span<const trained<R>> list, adam<R>& optimiser, const tuning_options& options) {
  const tensor_file file = tensor_file::read(path);
  const auto expect = [&](const std::string& key, const std::string& value) {
    const auto at = file.metadata().find(key);
    const std::string got = at == file.metadata().end() ? "nothing" : io::quoted(at->second);
    require(got == io::quoted(value), errc::file, file.name(), ": metadata ", key, ": expected ", io::quoted(value), ", got ", got);
  };
  expect("format", "weft.tuning");
  expect("version", "1");
  for (const auto& [name, x] : tuning_numbers(options)) expect(name, exact(x));
  std::vector<array<R, 1>> values;
  for (const auto& p : list) {
    const tensor& t = file.at(io::join("value", p.name));
    require(t.type == dtype_of<R>, errc::unsupported, file.name(), ": tensor ", io::quoted(t.name), ": expected ", dtype_name(dtype_of<R>), ", got ", dtype_name(t.type));
    require(t.count() == static_cast<index>(p.value.size()), errc::shape, file.name(), ": tensor ", io::quoted(t.name), ": expected ", p.value.size(), " numbers, got ", t.count());
    values.push_back(to_array<R, 1>(t));
    for (const R x : std::span(values.back().data(), p.value.size()))
      require(std::isfinite(x), errc::value, file.name(), ": tensor ", io::quoted(t.name), ": expected finite numbers, got ", x);
  }
  optimiser.restore_parts(list, file);
  for (std::size_t i = 0; i < list.size(); ++i) std::copy_n(values[i].data(), list[i].value.size(), list[i].value.begin());
}

}  // namespace detail

// loss(step): adds the gradients of the mean loss over all items to the list's, which are zero before it, and returns that loss.
//
// Throws errc::value naming the first tensor with a gradient that is not finite, and the step; the values are then those
// after the last good step, and a checkpoint is whole: a run that is resumed loses at most the steps since it was written,
// and gives the bits of the unbroken run. Throws errc::file, missing, shape or unsupported for a checkpoint of another run.
template <class R, class F>
tuning_report tune(cpu& executor, const std::vector<trained<R>>& list, const tuning_options& options, F&& loss) {
  require(options.steps >= 0 && options.checkpoint_every >= 1, errc::value, "steps, checkpoint_every: expected 0 or more and 1 or more, got ", options.steps, ", ", options.checkpoint_every);
  require(options.rate > 0 && options.l2 >= 0, errc::value, "rate, l2: expected a positive number and 0 or more, got ", options.rate, ", ", options.l2);
  require(!options.resume || !options.checkpoint.empty(), errc::missing, "resume: expected a checkpoint to go on from, got none");
  adam<R> optimiser(options.adam);
  if (options.resume) detail::restore_checkpoint<R>(options.checkpoint, list, optimiser, options);
  tuning_report report;
  report.first_step = optimiser.steps();
  for (index step = optimiser.steps(); step < options.steps; ++step) {
    clear_gradients<R>(list);
    const double now = loss(step);
    for (const auto& p : list)
      for (std::size_t i = 0; i < p.value.size(); ++i) p.gradient[i] += static_cast<R>(2 * options.l2) * p.value[i];
    check_gradients<R>(list, step);
    require(std::isfinite(now), errc::value, "loss: expected a finite number, got ", now, " in step ", step);
    clip_gradients<R>(list, options.clip);
    optimiser.step(executor, list, options.rate);
    report.losses.push_back(now);
    if (!options.checkpoint.empty() && ((step + 1) % options.checkpoint_every == 0 || step + 1 == options.steps))
      detail::save_checkpoint<R>(options.checkpoint, list, optimiser, options);
  }
  double sum = 0;
  for (const auto& p : list)
    for (const R x : p.value) sum += static_cast<double>(x) * static_cast<double>(x);
  report.norm = std::sqrt(sum);
  return report;
}

}  // namespace WEFT_ISA
}  // namespace weft
