// Low-rank changes of frozen weights, W + (alpha / rank) B A (Hu et al. 2021, arXiv 2106.09685): what tuned states are compared with.
//
// The products are merged into the weights before a step and the gradients of the merged weights taken apart after it, so any
// layer's weights will do, and inference costs nothing more.
#pragma once
#include <random>

#include "trained.hpp"
#include "../layer/projection.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class R>
class low_rank_weights {
 public:
  explicit low_rank_weights(index rank, double alpha_over_rank = 2.0, unsigned seed = 0) : rank_(rank), scale_(alpha_over_rank), bits_(seed) {
    require(rank >= 1, errc::value, "rank: expected 1 or more, got ", rank);
  }
  low_rank_weights(const low_rank_weights&) = delete;
  // The frozen weights are as they were.
  ~low_rank_weights() { restore(); }

  // Changes rows [first, first + count) of a weight [out, in] that lives as long as this object, as does the room of its gradient.
  // A starts from N(0, 1 / in), B from zero: nothing is changed yet. Throws errc::shape.
  void add(std::string name, view<R, 2> weight, view<R, 2> gradient, index first, index count) {
    require(weight.extent == gradient.extent, errc::shape, "gradient of ", name, ": expected ", check::list(weight.extent), ", got ", check::list(gradient.extent));
    require(first >= 0 && count >= 1 && first <= weight.extent[0] - count, errc::shape, name, ": expected rows within 0 to ", weight.extent[0], ", got ", count, " from ", first);
    target t{std::move(name), weight.slice(0, first, count), gradient.slice(0, first, count), array<R, 2>({count, weight.extent[1]}), array<R, 2>({rank_, weight.extent[1]}),
             array<R, 2>({count, rank_}), array<R, 2>({rank_, weight.extent[1]}), array<R, 2>({count, rank_})};
    std::normal_distribution<double> draw(0.0, 1.0 / std::sqrt(static_cast<double>(weight.extent[1])));
    for (index i = 0; i < t.a.size(); ++i) t.a.data()[i] = static_cast<R>(draw(bits_));
    for (index r = 0; r < count; ++r) std::copy_n(&t.weight(r, 0), weight.extent[1], &t.frozen(r, 0));
    targets_.push_back(std::move(t));
  }
  void add(std::string name, view<R, 2> weight, view<R, 2> gradient) { add(std::move(name), weight, gradient, 0, weight.extent[0]); }

  std::vector<trained<R>> list() {
    std::vector<trained<R>> all;
    const auto span = [](array<R, 2>& a) { return std::span<R>(a.data(), static_cast<std::size_t>(a.size())); };
    for (target& t : targets_) {
      all.push_back({t.name + ".a", span(t.a), span(t.d_a)});
      all.push_back({t.name + ".b", span(t.b), span(t.d_b)});
    }
    return all;
  }
  index parameters() const {
    index n = 0;
    for (const target& t : targets_) n += t.a.size() + t.b.size();
    return n;
  }

  // W + factor (alpha / rank) B A takes the place of the frozen weights: before a step, and to deploy. The same bits however often.
  void merge(double factor = 1.0) {
    for (target& t : targets_) {
      auto w = map(t.weight);
      w = map(t.frozen.view());
      w.noalias() += static_cast<R>(factor * scale_) * (map(t.b.view()) * map(t.a.view()));
    }
  }
  // Adds the gradients of A and B that those of the merged weights mean, and clears these.
  void collect() {
    const R s = static_cast<R>(scale_);
    for (target& t : targets_) {
      map(t.d_a.view()).noalias() += s * (map(t.b.view()).transpose() * map(t.gradient));
      map(t.d_b.view()).noalias() += s * (map(t.gradient) * map(t.a.view()).transpose());
      map(t.gradient).setZero();
    }
  }
  void restore() {
    for (target& t : targets_)
      for (index r = 0; r < t.frozen.extent(0); ++r) std::copy_n(&t.frozen(r, 0), t.frozen.extent(1), &t.weight(r, 0));
  }

 private:
  struct target {
    std::string name;
    view<R, 2> weight, gradient;
    array<R, 2> frozen, a, b, d_a, d_b;
  };
  static detail::row_map<R> map(const view<R, 2>& v) { return {v.data, v.extent[0], v.extent[1], Eigen::OuterStride<>(v.stride[0])}; }

  index rank_;
  double scale_;
  std::mt19937 bits_;
  std::vector<target> targets_;
};

}  // namespace WEFT_ISA
}  // namespace weft
