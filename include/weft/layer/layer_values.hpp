// Where the values between a layer's parts live: in the executor's workspace, or on a tape where gradients are asked for.
//
// A layer says once what lies between its parts:
//
//   auto values_of(const delta_net<T>& l, layer_room& room) { return values{.a = room.take<R>(width), ...}; }
//
// Its forward writes these values, its backward finds them by the same function.
#pragma once
#include <any>
#include <cstddef>
#include <span>
#include <vector>

#include "../core/executor.hpp"
#include "../core/tape.hpp"
#include "../core/verbs.hpp"

namespace weft {
inline namespace v1 {

// What a layer keeps of one scan: its values, in order, and the tapes of the mixers inside.
struct layer_kept {
  std::vector<array<std::byte, 1>> values;
  std::vector<tape> tapes;
  index every = 64;  // of the tapes

  std::size_t bytes() const {
    std::size_t n = 0;
    for (const auto& v : values) n += v.bytes();
    for (const tape& t : tapes) n += t.bytes();
    return n;
  }
};

// How a layer was called: one token a sequence, or a piece.
struct layer_call {
  std::span<const index> cu_seqlens{};
  bool one_token = false;
  layer_kept* kept = nullptr;  // where values are to be kept
};
// A piece whose values are kept: another type, so that who needs no gradients compiles none.
struct recording_call : layer_call {};

}  // namespace v1

inline namespace WEFT_ISA {

class layer_room {
 public:
  // For values to be written.
  layer_room(cpu& executor, const layer_call& call, index batch, index time)
      : scope_(executor.temporaries()), kept_(call.kept), batch_(batch), time_(time), writes_(true) {}
  // For values that a scan kept.
  layer_room(cpu& executor, const layer_kept& kept, index batch, index time)
      : scope_(executor.temporaries()), kept_(const_cast<layer_kept*>(&kept)), batch_(batch), time_(time), writes_(false) {}

  // [batch, time, width]
  template <class X>
  view<X, 3> take(index width) {
    if (!kept_) return scope_.take<X>(batch_, time_, width);
    const index bytes = batch_ * time_ * width * static_cast<index>(sizeof(X));
    if (writes_ && next_ == kept_->values.size()) kept_->values.emplace_back();
    array<std::byte, 1>& room = kept_->values.at(next_++);
    if (writes_ && (room.null() || room.size() < bytes)) room = array<std::byte, 1>({bytes});
    return {reinterpret_cast<X*>(room.data()), {batch_, time_, width}};
  }
  // What v becomes: in its place, unless gradients need v too.
  template <class X>
  view<X, 3> after(const view<X, 3>& v) {
    return kept_ ? take<X>(v.extent[2]) : v;
  }
  // Numbers that are not kept.
  temporaries::scope& scope() { return scope_; }

 private:
  temporaries::scope scope_;
  layer_kept* kept_;
  index batch_, time_;
  bool writes_;
  std::size_t next_ = 0;
};

// A mixer inside a layer, by the verb that the layer was called with; `which`: its number among the layer's mixers.
template <class M>
void fold(cpu& executor, const M& mixer, const inputs_t<M>& in, state_t<M>& state, const outputs_t<M>& out, const layer_call& call, std::size_t = 0) {
  if (call.one_token) step(executor, mixer, in, state, out);
  else scan(executor, mixer, in, state, out, call.cu_seqlens);
}
template <class M>
void fold(cpu& executor, const M& mixer, const inputs_t<M>& in, state_t<M>& state, const outputs_t<M>& out, const recording_call& call, std::size_t which = 0) {
  auto& tapes = call.kept->tapes;
  if (tapes.size() <= which) tapes.resize(which + 1);
  tapes[which].every = call.kept->every;
  scan(executor, mixer, in, state, out, tapes[which], call.cu_seqlens);
}

}  // namespace WEFT_ISA
}  // namespace weft
