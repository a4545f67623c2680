// The n-th allocation of a layer's call fails, for all n: std::bad_alloc, and neither state nor output is touched. A warm executor
// allocates nothing. What a product asks of malloc counts too.
#include "../catch.hpp"

#include <cstring>
#include <random>

#include "../failing_allocator.hpp"
#include "layer_files.hpp"

namespace {

using namespace weft;
using weft::index;

std::vector<std::byte> bytes_of(const any_state& s) {
  std::vector<std::byte> all;
  for (const tensor& t : s.parts()) all.insert(all.end(), t.data, t.data + t.bytes());
  return all;
}

// A call on a layer with a past. Its tokens are more than one piece, and the last piece of few tokens reads a long cache.
struct call {
  any_layer<float> layer;
  array<float, 3> x, y;
  any_state state;

  call(const any_layer<float>& l, index batch, index time, index capacity) : layer(l), x({batch, time, l.hidden()}), y(x.extent()) {
    std::mt19937 bits(7);
    std::normal_distribution<float> draw;
    for (index i = 0; i < x.size(); ++i) x.data()[i] = draw(bits);
    state = layer.state({.batch = batch, .capacity = capacity});
    cpu before;
    scan(before, layer, {.x = x.view().slice(1, 0, 1)}, state, {.y = y.view().slice(1, 0, 1)});
    std::memset(y.data(), 0xff, y.bytes());
  }
  void run(cpu& executor) {
    if (x.extent(1) == 1) step(executor, layer, {.x = x}, state, {.y = y});
    else scan(executor, layer, {.x = x}, state, {.y = y});
  }
  bool untouched(const std::vector<std::byte>& before) const {
    const auto* const out = reinterpret_cast<const unsigned char*>(y.data());
    return bytes_of(state) == before && std::all_of(out, out + y.bytes(), [](unsigned char b) { return b == 0xff; });
  }
};

TEST_CASE("a failing allocation in a layer changes nothing") {
  for (const auto& path : test::layer_files())
    for (const bool decodes : {false, true}) {
      CAPTURE(path, decodes);
      const test::loaded_layer l(path);
      call c(l.layer, decodes ? 2 : 20, decodes ? 1 : 100, 2100);
      const auto before = bytes_of(c.state);
      long n = 0;
      for (bool done = false; !done; ++n) {
        REQUIRE(n < 200);
        {
          watch w(n);
          try {
            cpu executor;
            c.run(executor);
            done = true;
          } catch (const std::bad_alloc&) {
          }
        }
        CHECK(live == 0);
        if (done != c.untouched(before)) continue;
        FAIL("allocation " << n << (done ? ": nothing was written" : " failed after a write"));
      }
      CHECK(n > 5);
    }
}

TEST_CASE("a warm executor allocates nothing in a layer, however long its past") {
  for (const auto& path : test::layer_files()) {
    CAPTURE(path);
    const test::loaded_layer l(path);
    call token(l.layer, 2, 1, 5000), prompt(l.layer, 2, 4200, 5000);
    cpu executor;
    token.run(executor);
    {
      watch w(-1);
      token.run(executor);
      CHECK(allocated == 0);
    }
    cpu other;
    prompt.run(other);
    token.state = prompt.state;
    {
      watch w(-1);
      token.run(executor);
      CHECK(allocated == 0);
    }
    prompt.state = l.layer.state({.batch = 2, .capacity = 5000});
    watch w(-1);
    prompt.run(other);
    CHECK(allocated == 0);
  }
}

TEST_CASE("a large product allocates nothing") {
  cpu executor;
  const projection<float> p{.weight = array<float, 2>({700, 3000})};
  const array<float, 3> x({1, 300, 3000});
  array<float, 3> y({1, 300, 700});
  project<float>(executor, p, x, y);
  watch w(-1);
  project<float>(executor, p, x, y);
  CHECK(allocated == 0);
}

}  // namespace
