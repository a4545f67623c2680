// What papers wrap around a mixer.
#include "answers.cuh"

namespace ops {
namespace {

// What the call writes is on the device first of all what it is on the host; both ways the whole range goes.
template <class... Views, class Call>
void with_copies(Call&& call, const Views&... views) {
  mirror memory;
  (memory.cover(views), ...);
  memory.upload(device().stream());
  const auto there = [&](auto v) {
    v.data = memory.there(v.data);
    return v;
  };
  call(there);
  memory.download(device().stream());
}

template <class T>
weft::output<T, 4> moved(const weft::output<T, 4>& o, auto&& there) {
  return o.visit([&](const auto& v) { return weft::output<T, 4>(there(v)); });
}

}  // namespace

template <class T>
void answer(const rms_norm_request<T>& r) {
  with_copies([&](auto there) { weft::rms_norm_gated<T>(device(), there(r.x), there(r.z), there(r.weight), moved(r.o, there), r.options); }, r.x, r.z, r.weight, r.o.wide_view());
}
template <class T>
void answer(const l2_norm_request<T>& r) {
  with_copies([&](auto there) { weft::l2_norm<T>(device(), there(r.x), moved(r.o, there), r.eps); }, r.x, r.o.wide_view());
}
template <class T>
void answer(const rotary_request<T>& r) {
  with_copies(
      [&](auto there) {
        using R = weft::accumulate_t<T>;
        const auto cos = there(r.cos), sin = there(r.sin);
        weft::rotary_angles<R>(device(), there(r.positions), r.frequencies, cos, sin);
        weft::rotary<T>(device(), there(r.x), cos, sin, moved(r.o, there), r.interleaved);
      },
      r.x, r.positions, r.cos, r.sin, r.o.wide_view());
}

template <class T>
std::vector<device_answer> rows_of() {
  return {row<mixer_request<weft::short_conv<T>>>(), row<rms_norm_request<T>>(), row<l2_norm_request<T>>(), row<rotary_request<T>>()};
}

std::vector<device_answer> layer_answers() {
  std::vector<device_answer> all;
  for (const auto& rows : {rows_of<float>(), rows_of<double>(), rows_of<weft::bf16>(), rows_of<weft::fp16>()}) all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace ops
