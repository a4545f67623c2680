// Gradients of layers one after another: back through them, each by its own tape. The schedule's tape holds the layers' tapes and
// what each of them read, whatever `every` is.
#pragma once
#include "schedule.hpp"

namespace weft {
inline namespace v1 {

template <class T>
struct schedule_record {
  bool filled = false;  // not while a scan has begun and not ended
  std::array<index, 3> extents{};  // of x
  std::vector<tape> layers;
  std::vector<array<T, 3>> inputs;  // of the layers but the first

  std::size_t bytes() const {
    std::size_t n = 0;
    for (const tape& t : layers) n += t.bytes();
    for (const auto& x : inputs) n += x.bytes();
    return n;
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// run(record), which scans so many layers.
template <class T, class Run>
void record_layers(std::size_t count, const view<const T, 3>& x, tape& tape, Run&& run) {
  auto& record = tape.template fill<schedule_record<T>>();
  record.filled = false;
  record.extents = x.extent;
  record.layers.resize(count);
  for (weft::tape& t : record.layers) t.every = tape.every;
  run(record);
  record.filled = true;
}

// From y back to x down to layer `lowest`: run(i, the layer's tape, its x, d_y, d_x). Below `lowest` nothing is wanted, nor is
// that layer's d_x, unless it is the schedule's own.
template <class T, class Run>
void run_layers_back(cpu& executor, std::span<const bool> rehearse, std::size_t lowest, const view<const T, 3>& x, const tape& tape,
                     const cotangent<T, 3>& d_y, const output<T, 3>& d_x, Run&& run) {
  using R = accumulate_t<T>;
  const std::size_t count = rehearse.size();
  const auto& record = tape.template read<schedule_record<T>>();
  require(record.filled, errc::value, "tape: expected one filled by a scan of this schedule, got one whose scan did not end");
  require(record.layers.size() == count && record.extents == x.extent, errc::value, "tape: expected one of a scan of ", count, " layers over ", check::list(x.extent),
          ", got ", record.layers.size(), " over ", check::list(record.extents));
  temporaries::scope memory(executor.temporaries());
  const auto take = [&] { return memory.take<R>(x.extent[0], x.extent[1], x.extent[2]); };
  const view<R, 3> two[] = {take(), take()};  // the gradient after layer i in two[i % 2]
  run_all(executor, std::min(lowest, count), count, true, rehearse, [&](std::size_t i) {
    run(i, record.layers[i], i == 0 ? x : view<const T, 3>(record.inputs[i]), i + 1 == count ? d_y : cotangent<T, 3>(view<const R, 3>(two[i % 2])),
        i == 0 ? d_x : i > lowest ? output<T, 3>(two[(i + 1) % 2]) : output<T, 3>());
  });
}

}  // namespace detail

template <class... L>
  requires(layer_with_parameter_gradients<L> && ...)
void run_record(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in, typename layer_schedule<L...>::state_type& state,
                const typename layer_schedule<L...>::outputs& out, tape& tape, std::span<const index> cu) {
  detail::record_layers<typename layer_schedule<L...>::storage_type>(
      s.count, in.x, tape, [&](auto& record) { detail::run_schedule(executor, s, in, state, out, {.cu_seqlens = cu, .tapes = record.layers.data()}, &record.inputs); });
}

// A part of d_state that is null is a gradient of zero and not wanted. Ends at the lowest layer of which something is.
template <class... L>
  requires(layer_with_parameter_gradients<L> && ...)
void run_vjp(cpu& executor, const layer_schedule<L...>& s, const typename layer_schedule<L...>::inputs& in, const tape& tape,
             const typename layer_schedule<L...>::cotangents& d_out, typename layer_schedule<L...>::state_gradient& d_state,
             const typename layer_schedule<L...>::gradients& d_in) {
  using T = typename layer_schedule<L...>::storage_type;
  std::size_t lowest = d_in.parameters || !d_in.x.null() ? 0 : s.count;
  for_each_index<layer_schedule<L...>::count>([&](auto i) {
    for_each_part(std::get<i>(d_state.states), [&](const auto& p) {
      if (!p.data.null()) lowest = std::min<std::size_t>(lowest, i);
    });
  });
  detail::run_layers_back<T>(executor, s.layer_rehearses, lowest, in.x, tape, d_out.y, d_in.x,
                             [&](std::size_t layer, const weft::tape& own, const view<const T, 3>& x, const cotangent<T, 3>& d_y, const output<T, 3>& d_x) {
    detail::with_index<layer_schedule<L...>::count>(layer, [&](auto i) {
      using layer_type = typename layer_schedule<L...>::template layer<i>;
      inputs_t<layer_type> from{};
      from.x = x;
      gradients_t<layer_type> to{};
      to.x = d_x;
      if (d_in.parameters) to.parameters = &std::get<i>(d_in.parameters->states);
      vjp(executor, std::get<i>(s.mixers), from, own, {.y = d_y}, std::get<i>(d_state.states), to);
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
