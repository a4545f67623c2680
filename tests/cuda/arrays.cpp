// Memory of the device as values: copies, rows, states, and what failures say.
#include <weft/backend/cuda/executor.hpp>
#include <weft/recurrence/delta_rule.hpp>

#include "../catch.hpp"

namespace {

weft::array<float, 2> counted(weft::index rows, weft::index columns) {
  weft::array<float, 2> a({rows, columns});
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(i);
  return a;
}

bool equal(const weft::array<float, 2>& a, const weft::array<float, 2>& b) {
  return a.extent() == b.extent() && std::equal(a.data(), a.data() + a.size(), b.data());
}

TEST_CASE("an array goes to the device and back, and is copied there as a value") {
  weft::cuda gpu;
  weft::cpu cpu;
  const auto a = counted(3, 5);
  auto there = weft::copy(gpu, a);
  CHECK(equal(weft::copy(cpu, there), a));
  const auto kept = there;
  there.upload(counted(5, 3).data());
  there = weft::device_array<float, 2>(gpu.stream(), {3, 5});
  CHECK(equal(weft::copy(cpu, there), weft::array<float, 2>({3, 5})));
  const auto moved = std::move(there);
  CHECK(equal(weft::copy(cpu, kept), a));
  CHECK(weft::copy(cpu, moved.gather_rows(std::vector<weft::index>{})).extent(0) == 0);
  CHECK(weft::copy(cpu, weft::device_array<float, 2>{}).null());
}

TEST_CASE("an assignment of equal extents keeps its memory") {
  weft::cuda gpu;
  weft::cpu cpu;
  const auto a = weft::copy(gpu, counted(4, 2));
  weft::device_array<float, 2> b(gpu.stream(), {4, 2});
  const float* const at = b.data();
  b = a;
  CHECK(b.data() == at);
  CHECK(equal(weft::copy(cpu, b), counted(4, 2)));
  b = weft::copy(gpu, counted(1, 9));
  CHECK(b.extent(1) == 9);
}

TEST_CASE("a state on the device is the same value") {
  weft::cuda gpu;
  weft::cpu cpu;
  auto host = weft::gated_delta_rule<float>{}.state({.batch = 3, .heads = 2, .key_dim = 5, .value_dim = 4});
  for (weft::index i = 0; i < host.matrix.size(); ++i) host.matrix.data()[i] = static_cast<float>(i);
  const auto there = weft::copy(gpu, host);
  const auto rows = weft::copy(cpu, there.gather({2, 0, 2, 1})), expected = host.gather({2, 0, 2, 1});
  CHECK(rows.matrix.extent() == expected.matrix.extent());
  CHECK(std::equal(rows.matrix.data(), rows.matrix.data() + rows.matrix.size(), expected.matrix.data()));
  CHECK(rows.normaliser.null());
  CHECK_THROWS_AS(there.gather({3}), weft::error);
}

TEST_CASE("a failed call names itself") {
  weft::cuda gpu;
  try {
    weft::device_array<float, 1> too_much(gpu.stream(), {weft::index{1} << 45});
    FAIL("there is no such memory");
  } catch (const weft::error& e) {
    CHECK(e.code() == weft::errc::device);
    CHECK(std::string(e.what()).find("weft: cudaMalloc of 140737488355328 bytes: ") == 0);
  }
  gpu.workspace(1000);
  gpu.synchronize();
}

}  // namespace
