// Values that validate() refuses and those it takes, by tensor and code.
#include <weft/weft.hpp>

#include "catch.hpp"
#include "example_policy.hpp"

namespace {

using weft::errc;

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

struct delta_call {
  weft::array<float, 4> q{{1, 3, 1, 4}}, k = q, v{{1, 3, 2, 5}};
  weft::array<float, 3> g{{1, 3, 2}}, beta = g;
  auto inputs() const { return weft::gated_delta_rule<float>::inputs{.q = q, .k = k, .v = v, .g = g, .beta = beta}; }
};

template <class M>
std::string complaint(const M& mixer, const typename M::inputs& in, errc code = errc::value) {
  try {
    weft::validate(mixer, in);
  } catch (const weft::error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("good values pass, a decay of -inf among them") {
  delta_call c;
  c.g(0, 1, 1) = -infinity;
  c.beta(0, 2, 0) = 2;
  CHECK(complaint(weft::gated_delta_rule<float>{}, c.inputs()) == "");
  CHECK(complaint(weft::gated_delta_rule<float>{}, {}) == "");
}

TEST_CASE("the first bad tensor is named with the place") {
  const weft::gated_delta_rule<float> mixer;
  const auto with = [&](auto&& change) {
    delta_call c;
    change(c);
    return complaint(mixer, c.inputs());
  };
  CHECK(with([](auto& c) { c.v(0, 2, 1, 4) = not_a_number; }).starts_with("weft: v: expected finite numbers, got"));
  CHECK(with([](auto& c) { c.v(0, 2, 1, 4) = not_a_number; }).ends_with("at [0, 2, 1, 4]"));
  CHECK(with([](auto& c) { c.q(0, 0, 0, 0) = -infinity; }).starts_with("weft: q: expected finite numbers, got -inf"));
  CHECK(with([](auto& c) { c.g(0, 1, 0) = not_a_number; }).starts_with("weft: g: expected numbers or -inf"));
  CHECK(with([](auto& c) { c.g(0, 1, 1) = 0.5f; }) == "weft: g: expected a log-decay of at most 0, got 0.5 at batch 0, token 1, head 1, channel 0");
  CHECK(with([](auto& c) { c.beta(0, 1, 0) = 2.5f; }) == "weft: beta: expected 0 to 2, got 2.5 at [0, 1, 0]");
  CHECK(with([](auto& c) { c.beta(0, 1, 0) = -infinity; }) == "weft: beta: expected finite numbers, got -inf at [0, 1, 0]");
}

TEST_CASE("GDN-2's gates have limits each; growth shows in every channel") {
  const weft::gdn2<float> mixer;
  weft::array<float, 4> key({1, 2, 1, 3}), value({1, 2, 1, 3}), g = key, b = key, w = value;
  const weft::gdn2<float>::inputs in{.q = key, .k = key, .v = value, .g = g, .b = b, .w = w};
  CHECK(complaint(mixer, in) == "");
  w(0, 1, 0, 2) = -1;
  CHECK(complaint(mixer, in).starts_with("weft: w: expected 0 to 2, got -1"));
  w(0, 1, 0, 2) = 1, b(0, 0, 0, 1) = 3;
  CHECK(complaint(mixer, in).starts_with("weft: b: expected 0 to 2, got 3"));
  b(0, 0, 0, 1) = 1, g(0, 1, 0, 2) = 1;
  CHECK(complaint(mixer, in).ends_with("got 1 at batch 0, token 1, head 0, channel 2"));
}

TEST_CASE("decays are judged as the policy computes them") {
  weft::array<float, 4> x({1, 2, 1, 3}), key({1, 2, 1, 4});
  weft::array<float, 3> dt({1, 2, 1});
  weft::array<float, 1> A({1});
  A(0) = -1;
  const weft::mamba2<float>::inputs in{.x = x, .dt = dt, .A = A, .B = key, .C = key, .D = {}, .dt_bias = {}, .z = {}};
  CHECK(complaint(weft::mamba2<float>{}, in) == "");
  dt(0, 1, 0) = -infinity;  // a gate, but not itself a log-decay
  CHECK(complaint(weft::mamba2<float>{}, in) == "weft: dt: expected finite numbers, got -inf at [0, 1, 0]");
  dt(0, 1, 0) = 0, A(0) = -infinity;
  CHECK(complaint(weft::mamba2<float>{}, in) == "weft: A: expected finite numbers, got -inf at [0]");
  A(0) = 1;
  CHECK(complaint(weft::mamba2<float>{}, in).starts_with("weft: g: expected a log-decay of at most 0"));

  // A user's policy, without names, limits or an input called g: a sigmoid always forgets.
  dt(0, 1, 0) = 30;
  CHECK(complaint(weft::recurrence<leaky_delta, float>{}, {.q = key, .k = key, .v = x, .x = dt, .beta = dt}) == "");
  dt(0, 1, 0) = not_a_number;
  CHECK(complaint(weft::recurrence<leaky_delta, float>{}, {.q = key, .k = key, .v = x, .x = dt, .beta = dt}).starts_with("weft: input 4: expected finite numbers"));
}

TEST_CASE("inputs that do not fit each other are no place to look for values") {
  delta_call c;
  c.beta = weft::array<float, 3>({1, 2, 2});
  CHECK(complaint(weft::gated_delta_rule<float>{}, c.inputs(), errc::shape) == "weft: beta: expected [1, 3, 2], got [1, 2, 2]");
}

TEST_CASE("attention refuses a NaN or an infinity by its tensor, and settings that mean nothing") {
  weft::array<float, 4> q({1, 2, 2, 3}), k({1, 2, 1, 3});
  const weft::attention<float> mixer;
  CHECK(complaint(mixer, {.q = q, .k = k, .v = k}) == "");
  k(0, 1, 0, 2) = not_a_number;
  CHECK(complaint(mixer, {.q = q, .k = k, .v = q}).starts_with("weft: k: expected finite numbers, got "));
  k(0, 1, 0, 2) = infinity;
  CHECK(complaint(mixer, {.q = q, .k = k, .v = q}) == "weft: k: expected finite numbers, got inf at [0, 1, 0, 2]");
  k(0, 1, 0, 2) = 0;
  weft::array<float, 1> sink({2});
  sink(0) = -infinity;
  CHECK(complaint(mixer, {.q = q, .k = k, .v = k, .sink = sink}) == "");
  CHECK(complaint(weft::attention<float>{.softcap = infinity}, {.q = q, .k = k, .v = k}) == "weft: softcap: expected 0 (none) or a positive, finite number, got inf");
  CHECK(complaint(weft::attention<float>{.scale = not_a_number}, {.q = q, .k = k, .v = k}).starts_with("weft: scale: expected a finite number"));
}

TEST_CASE("extents that no memory has are refused before a value is read") {
  weft::array<float, 4> x({2, 3, 2, 4});
  for (const std::array<weft::index, 4> extent : {std::array<weft::index, 4>{2, -3, 2, 4}, {-2, -3, 2, 4}, {2, weft::index{1} << 61, 2, 4}, {0, weft::index{1} << 61, 2, 4}}) {
    const weft::view<const float, 4> odd(x.data(), extent);
    const auto expected = Catch::Matchers::StartsWith("weft: q: expected extents from 0 up");
    CHECK_THAT(complaint(weft::linear_attention<float>{}, {.q = odd, .k = odd, .v = odd}, errc::shape), expected);
    CHECK_THAT(complaint(weft::attention<float>{}, {.q = odd, .k = odd, .v = odd}, errc::shape), expected);
    CHECK_THAT(complaint(weft::rat<float>{.chunk_size = 2}, {.q = odd, .k = odd, .v = odd, .g = odd}, errc::shape), expected);
    CHECK_THAT(complaint(weft::aaren<float>{}, {.q = {}, .k = odd, .v = odd}, errc::shape), Catch::Matchers::StartsWith("weft: k: expected extents from 0 up"));
  }
}
