// The loss of a language model and its gradients: logits = W_head x, loss = log sum exp(logits) - logits[target].
//
// Logits exist for a few tokens at a time; where gradients are wanted, exp(logits - lse) - [target] takes their place.
#pragma once
#include <cmath>
#include <cstdint>

#include "../math/functions.hpp"
#include "projection_vjp.hpp"

namespace weft {
inline namespace v1 {

inline constexpr std::int64_t no_target = -1;  // a token that does not count

struct token_loss {
  double sum = 0;   // in nats
  index count = 0;  // tokens
  double mean() const { return count > 0 ? sum / static_cast<double>(count) : 0.0; }
  double bits() const { return mean() / 0.69314718055994530942; }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// The loss at one row of logits, which become their gradient times `factor` where it is not 0.
template <class R>
R softmax_loss(R* logits, index count, index target, R factor) {
  R most = logits[0];
  for (index i = 1; i < count; ++i) most = logits[i] > most ? logits[i] : most;  // a NaN is seen by the sum
  const R at_target = logits[target] - most;
  const simd<R> shift(most);
  simd<R> sums(R(0));
  index whole = count / simd<R>::width * simd<R>::width;
  for (index i = 0; i < whole; i += simd<R>::width) {
    const simd<R> e = weft::exp(simd<R>::load(logits + i) - shift);
    e.store(logits + i);
    sums += e;
  }
  R sum = lane_sum(sums);
  for (index i = whole; i < count; ++i) sum += logits[i] = std::exp(logits[i] - most);
  if (factor != R(0)) {
    const R scale = factor / sum;
    for (index i = 0; i < count; ++i) logits[i] *= scale;
    logits[target] -= factor;
  }
  return std::log(sum) - at_target;
}

}  // namespace detail

// x [B, T, hidden], targets [B, T] or no_target. Returns the sum of the losses. Their gradients, times `factor` (0: one over
// the number of targets, which makes the loss a mean), go to d_x [B, T, hidden], overwritten, and are added to `d_head`; null: not
// wanted. The head's weight may be an embedding's. O(B T hidden vocabulary). The same bits for any number of workers.
// Throws errc::shape, errc::missing, errc::overlap, and errc::value for a target beyond the vocabulary.
template <storage T>
token_loss cross_entropy(cpu& executor, const projection<T>& head, std::type_identity_t<view<const T, 3>> x, view<const std::int64_t, 2> targets,
                         std::type_identity_t<view<accumulate_t<T>, 3>> d_x = {}, projection<accumulate_t<T>>* d_head = nullptr, double factor = 0) {
  using R = accumulate_t<T>;
  const index vocabulary = head.outputs(), batch = x.extent[0], time = x.extent[1];
  check::tensor("x", x, {batch, time, head.inputs()}, false, true);
  check::tensor("targets", targets, {batch, time}, false, true);
  check::result("d_x", d_x, x.extent, true, true);
  const projection<R> none, &d = d_head ? *d_head : none;
  detail::check_parameters(head, d);
  check::apart({{"d_x", d_x}, {"d_weight", d.weight.view()}, {"d_bias", d.bias.view()}},
               {{"x", x}, {"targets", targets}, {"weight", head.weight.view()}, {"bias", head.bias.view()}});
  token_loss loss;
  for (index b = 0; b < batch; ++b)
    for (index t = 0; t < time; ++t) {
      require(targets(b, t) >= no_target && targets(b, t) < vocabulary, errc::value, "targets: expected 0 to ", vocabulary - 1, " (-1: none), got ", targets(b, t),
              " at [", b, ", ", t, "]");
      loss.count += targets(b, t) != no_target;
    }
  const bool wanted = !d_x.null() || d_head;
  const R scale = !wanted ? R(0) : static_cast<R>(factor != 0 ? factor : 1.0 / static_cast<double>(std::max<index>(1, loss.count)));
  constexpr index most_logits = index{1} << 21;
  const index rows = std::clamp<index>(most_logits / std::max<index>(1, vocabulary), 32, 1024);
  temporaries::scope memory(executor.temporaries());
  const auto losses = memory.take<double>(std::min(rows, time));
  for (index b = 0; b < batch; ++b)
    for (index first = 0; first < time; first += rows) {
      const index n = std::min(rows, time - first);
      temporaries::scope chunk(executor.temporaries());
      const auto logits = chunk.take<R>(index{1}, n, vocabulary);
      const auto part = [&](const auto& v) { return v.null() ? v : v.slice(0, b, 1).slice(1, first, n); };
      project<T>(executor, head, part(x), logits);
      for_rows(executor, {1, n, 1}, vocabulary, [&](index, index t, index) {
        const std::int64_t target = targets(b, first + t);
        if (target == no_target) {
          std::fill_n(&logits(0, t, 0), vocabulary, R(0));
          losses(t) = 0;
        } else {
          losses(t) = static_cast<double>(detail::softmax_loss(&logits(0, t, 0), vocabulary, target, scale));
        }
      });
      if (executor.rehearsing()) continue;
      for (index t = 0; t < n; ++t) loss.sum += losses(t);
      if (wanted) project_vjp(executor, head, part(x), logits, part(d_x), d_head);
    }
  return loss;
}

}  // namespace WEFT_ISA
}  // namespace weft
