// Requests that must end in one sentence that names the thing.
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "support/operators.hpp"

namespace {

using weft::errc;
using weft::index;

// Small inputs of an operator, to be spoilt one at a time. Zeros where no values are given.
class request {
 public:
  explicit request(std::string op) : op_(std::move(op)) {}

  request& put(const std::string& name, std::vector<index> shape, weft::dtype type = weft::dtype::f32) {
    const weft::tensor t{.name = name, .type = type, .shape = shape, .data = nullptr};
    tensors_[name] = {type, std::move(shape), std::vector<std::byte>(static_cast<std::size_t>(t.bytes()) + 1)};
    return *this;
  }
  request& offsets(const std::vector<std::int64_t>& values) {
    const std::string name = "cu_seqlens";
    put(name, {static_cast<index>(values.size())}, weft::dtype::i64);
    if (!values.empty()) std::memcpy(tensors_[name].bytes.data(), values.data(), values.size() * sizeof values[0]);
    return *this;
  }
  request& drop(const std::string& name) {
    tensors_.erase(name);
    return *this;
  }
  request& with(std::string attributes) {
    attributes_ = std::move(attributes);
    return *this;
  }
  ops::results run(ops::mode how = ops::mode::scan) const {
    weft::cpu cpu;
    ops::tensor_map views;
    for (const auto& [name, t] : tensors_) views[name] = {.name = name, .type = t.type, .shape = t.shape, .data = t.bytes.data()};
    return ops::run(ops::find_operator(op_), views, ops::attributes::parse(attributes_, "--attrs"), how, cpu);
  }

 private:
  std::string op_, attributes_ = "{}";
  ops::result_map tensors_;
};

// T = 6, two key heads, four value heads, K = 3, V = 2.
request gated_delta() {
  return request("gated_delta_rule").put("q", {1, 6, 2, 3}).put("k", {1, 6, 2, 3}).put("v", {1, 6, 4, 2}).put("g", {1, 6, 4}).put("beta", {1, 6, 4});
}
request window_attention() {
  return request("sliding_window_attention").put("q", {1, 6, 4, 3}).put("k", {1, 8, 2, 3}).put("v", {1, 8, 2, 2});
}
request product() {
  return request("gated_delta_product").put("q", {1, 3, 2, 3}).put("k", {1, 6, 2, 3}).put("v", {1, 6, 2, 2}).put("beta", {1, 6, 2}).with(R"({"micro_steps": 2})");
}
// L = 4; two heads share q and k.
request rat() {
  return request("rat").put("q", {1, 6, 1, 4}).put("k", {1, 6, 1, 4}).put("v", {1, 6, 2, 4}).put("g", {1, 6, 2, 4}).with(R"({"chunk_size": 4})");
}
request aaren() { return request("aaren").put("q", {2, 3}).put("k", {1, 6, 2, 3}).put("v", {1, 6, 2, 5}); }
request chosen_tokens() { return request("topk_attention").put("q", {1, 6, 4, 3}).put("k", {1, 8, 2, 3}).put("v", {1, 8, 2, 2}).with(R"({"topk": 99})"); }
request chosen_blocks() {
  return request("block_topk_attention").put("q", {1, 6, 4, 3}).put("k", {1, 8, 2, 3}).put("v", {1, 8, 2, 2}).with(R"({"topk": 2, "block_size": 3})");
}
request convolution() { return request("short_conv").put("x", {1, 6, 4}).put("weight", {4, 3}); }
request norm() { return request("rms_norm_gated").put("x", {1, 6, 2, 8}).put("weight", {8}); }
request turn() { return request("rotary").put("x", {1, 6, 2, 8}).put("positions", {6}, weft::dtype::i64); }

// An error of this code, whose message names `thing` and is one line.
template <class F>
void fails(errc code, const std::string& thing, F&& f) {
  std::string message;
  try {
    f();
  } catch (const weft::error& e) {
    message = e.what();
    CHECK(static_cast<int>(e.code()) == static_cast<int>(code));
  }
  CAPTURE(thing, message);
  CHECK(message.find(thing) != std::string::npos);
  CHECK(message.starts_with("weft: "));
  CHECK(message.find('\n') == std::string::npos);
}

// In every mode that means something.
void refuses(const request& r, errc code, const std::string& thing) {
  fails(code, thing, [&] { r.run(); });
  for (const ops::mode how : {ops::mode::literal, ops::mode::step, ops::mode::split}) {
    try {
      r.run(how);
    } catch (const ops::no_meaning&) {
      continue;
    } catch (const weft::error&) {
    }
    fails(code, thing, [&] { r.run(how); });
  }
}

}  // namespace

TEST_CASE("requests to be spoilt are good") {
  for (const auto& good : {gated_delta(), window_attention(), chosen_tokens(), chosen_blocks(), product(), convolution(), rat(), aaren()})
    for (const ops::mode how : {ops::mode::scan, ops::mode::literal, ops::mode::step, ops::mode::split}) CHECK(good.run(how).outputs.contains("o"));
  CHECK(norm().run().outputs.contains("o"));
  CHECK(turn().run().outputs.contains("cos"));
  CHECK(gated_delta().with(R"({"selection_gap": 0.5, "exact_ties": true})").run().outputs.contains("ht"));
}

TEST_CASE("tensors that are missing or have wrong shapes are named") {
  refuses(gated_delta().drop("q"), errc::missing, "q:");
  refuses(gated_delta().drop("beta"), errc::missing, "beta:");
  refuses(gated_delta().put("k", {1, 6, 2, 4}), errc::shape, "k: expected [1, 6, 2, 3], got [1, 6, 2, 4]");
  refuses(gated_delta().put("k", {1, 5, 2, 3}), errc::shape, "k: expected [1, 6, 2, 3], got [1, 5, 2, 3]");
  refuses(gated_delta().put("q", {6, 2, 3}), errc::shape, "\"q\": expected 4 dimensions, got [6, 2, 3]");
  refuses(gated_delta().put("q", {1, 6, 3, 3}).put("k", {1, 6, 3, 3}), errc::heads, "q: expected a head count that divides 4");
  refuses(gated_delta().put("h0", {1, 4, 2, 3}), errc::shape, "h0: expected [1, 4, 3, 2], got [1, 4, 2, 3]");
  refuses(product().put("v", {1, 3, 2, 2}), errc::shape, "v: expected [1, 6, 2, 2]");
  refuses(product().with(R"({"micro_steps": 3})"), errc::shape, "k: expected [1, 9, 2, 3]");
  refuses(window_attention().put("v", {1, 6, 2, 2}), errc::shape, "v:");
  refuses(window_attention().put("k", {1, 5, 2, 3}), errc::shape, "k:");
  refuses(window_attention().put("q", {1, 6, 3, 3}), errc::heads, "q:");
  refuses(window_attention().put("sink", {3}), errc::shape, "sink: expected [4], got [3]");
  refuses(convolution().put("weight", {5, 3}), errc::shape, "weight:");
  refuses(convolution().put("h0", {1, 3, 4}), errc::shape, "h0: expected [1, 2, 4]");
  refuses(norm().put("weight", {7}), errc::shape, "weight:");
  refuses(norm().with(R"({"activation": "silu"})"), errc::missing, "z:");
  refuses(turn().put("positions", {5}, weft::dtype::i64), errc::shape, "positions:");
}

TEST_CASE("tensors without elements are answered at once, and of claims beyond measure the tensor is named") {
  const weft::index most = weft::index{1} << 40;
  const auto none = [](weft::index time) {
    return request("gated_delta_rule").put("q", {0, time, 2, 3}).put("k", {0, time, 2, 3}).put("v", {0, time, 4, 2}).put("g", {0, time, 4}).put("beta", {0, time, 4});
  };
  for (const ops::mode how : {ops::mode::scan, ops::mode::literal, ops::mode::step, ops::mode::split}) CHECK(none(1000).run(how).outputs.contains("o"));
  refuses(none(most), errc::shape, "expected extents whose product, zeros aside, is at most 2^24");
  refuses(request("l2norm").put("x", {1 << 20, 1 << 20, 1 << 10, 0}), errc::shape, "x: expected extents whose product");
}

TEST_CASE("chunks, heads and states that do not fit are named") {
  refuses(rat().with(R"({"chunk_size": 0})"), errc::value, "chunk_size: expected an integer from 1");
  refuses(rat().with(R"({"rope_base": -1})"), errc::value, "rope_base: expected at least 0");
  refuses(rat().put("q", {1, 6, 3, 4}).put("k", {1, 6, 3, 4}), errc::heads, "q: expected a head count that divides 2 value heads, got 3");
  refuses(rat().put("k", {1, 6, 2, 4}), errc::shape, "k: expected [1, 6, 1, 4], got [1, 6, 2, 4]");
  refuses(rat().put("g", {1, 6, 2}), errc::shape, "\"g\": expected 4 dimensions");
  refuses(rat().put("v", {1, 6, 2, 3}), errc::shape, "v: expected [1, 6, 2, 4]");
  refuses(rat().with(R"({"chunk_size": 4, "t0": 6})"), errc::missing, "h0_k, h0_v");
  refuses(rat().with(R"({"chunk_size": 4, "t0": 4})"), errc::missing, "cache_k");
  refuses(rat().with(R"({"chunk_size": 4, "t0": 4})").put("cache_k", {1, 2, 2, 4}), errc::shape, "cache_k: expected [1, 1, 2, 4], got [1, 2, 2, 4]");
  refuses(rat().put("h0_k", {1, 2, 3}), errc::shape, "h0_k: expected [1, 2, 4], got [1, 2, 3]");
  refuses(rat().with(R"({"chunk_size": 4, "t0": 4})").offsets({0, 6}), errc::value, "t0: expected 0 for packed sequences");
  refuses(aaren().put("q", {3, 3}), errc::shape, "q: expected [2, 3], got [3, 3]");
  refuses(aaren().put("v", {1, 6, 1, 5}), errc::shape, "v: expected [1, 6, 2, 5]");
  refuses(aaren().put("m0", {1, 2}), errc::missing, "m0, c0, a0: expected all of a state");
  refuses(aaren().put("m0", {1, 3}), errc::shape, "m0: expected [1, 2], got [1, 3]");
}

TEST_CASE("element types that mean nothing are named") {
  refuses(gated_delta().put("q", {1, 6, 2, 3}, weft::dtype::i32), errc::unsupported, "q: expected F32, F64, BF16 or F16, got I32");
  refuses(gated_delta().put("g", {1, 6, 4}, weft::dtype::i64), errc::unsupported, "\"g\"");
  refuses(turn().put("positions", {6}), errc::unsupported, "positions");
}

TEST_CASE("offsets of packed sequences are checked") {
  const auto packed = [](const std::vector<std::int64_t>& cu) { return gated_delta().offsets(cu); };
  CHECK(packed({0, 2, 2, 6}).run(ops::mode::step).outputs.at("ht").shape == std::vector<weft::index>{3, 4, 3, 2});
  refuses(packed({1, 6}), errc::sequence, "cu_seqlens: expected to start at 0");
  refuses(packed({0, 4, 2, 6}), errc::sequence, "cu_seqlens: expected ascending offsets");
  refuses(packed({0, 7}), errc::sequence, "cu_seqlens: expected to end at 6");
  refuses(packed({}), errc::sequence, "cu_seqlens");
  refuses(packed({0, 6}).put("q", {2, 6, 2, 3}).put("k", {2, 6, 2, 3}).put("v", {2, 6, 4, 2}).put("g", {2, 6, 4}).put("beta", {2, 6, 4}),
          errc::sequence, "cu_seqlens: expected packed tokens of batch 1");
  refuses(packed({0, 2, 6}).put("h0", {1, 4, 3, 2}), errc::shape, "h0: expected [2, 4, 3, 2]");
  refuses(window_attention().offsets({0, 6}), errc::shape, "k:");
}

TEST_CASE("attributes that an operator lacks or that are out of range are named") {
  refuses(gated_delta().with(R"({"window": 4})"), errc::value, "\"window\": expected an attribute of gated_delta_rule");
  refuses(gated_delta().with(R"({"scale": "large"})"), errc::value, "scale: expected a number, got a string");
  refuses(gated_delta().with(R"({"scale": true})"), errc::value, "scale: expected a number, got a boolean");
  refuses(gated_delta().with(R"({"qk_l2norm": 1})"), errc::value, "qk_l2norm: expected true or false, got an integer");
  refuses(gated_delta().with(R"({"l2norm_eps": -1e-6})"), errc::value, "l2norm_eps: expected at least 0");
  refuses(gated_delta().with(R"({"scale": null})"), errc::value, "scale");
  refuses(gated_delta().with(R"({"scale": [1]})"), errc::value, "--attrs");
  refuses(gated_delta().with(R"({"scale": 1e999})"), errc::value, "--attrs: expected a JSON object, got a number that no double holds");
  refuses(gated_delta().with("{\"scale\": 1" + std::string(299, '0') + "}"), errc::value, "scale: expected a number that a float holds, got 1e+299");
  refuses(gated_delta().with(R"({"scale": 1, "scale": 2})"), errc::value, "--attrs: expected each name once, got \"scale\" twice");
  refuses(gated_delta().with(R"({"scale": NaN})"), errc::value, "--attrs: expected a JSON object, got text that is no JSON at byte 11, \"NaN}\"");
  refuses(gated_delta().with(R"({"scale": 1)"), errc::value, "--attrs: expected a JSON object, got text that ends before it does");
  refuses(gated_delta().with("3"), errc::value, "--attrs: expected a JSON object, got number");
  refuses(gated_delta().with(std::string(100000, '[')), errc::value, "--attrs");
  refuses(product().with(R"({"micro_steps": 0})"), errc::value, "micro_steps: expected an integer from 1");
  refuses(product().with(R"({"micro_steps": 2.5})"), errc::value, "micro_steps: expected an integer from 1 to 2147483647, got 2.5");
  refuses(product().with(R"({"micro_steps": 18446744073709551615})"), errc::value, "micro_steps");
  refuses(window_attention().with(R"({"window": -1})"), errc::value, "window: expected an integer from 0");
  refuses(window_attention().with(R"({"kept": -1})"), errc::value, "kept");
  refuses(window_attention().with(R"({"softcap": -5})"), errc::value, "softcap: expected at least 0");
  refuses(window_attention().with(R"({"causal": "no"})"), errc::value, "causal");
  refuses(chosen_tokens().with("{}"), errc::missing, "topk: expected an integer from 1, got none");
  refuses(chosen_tokens().with(R"({"topk": 0})"), errc::value, "topk: expected an integer from 1 to 2147483647, got 0");
  refuses(chosen_tokens().with(R"({"topk": 2.5})"), errc::value, "topk: expected an integer from 1 to 2147483647, got 2.5");
  refuses(chosen_tokens().with(R"({"topk": 2, "block_size": 4})"), errc::value, "\"block_size\": expected an attribute of topk_attention");
  refuses(chosen_blocks().with(R"({"topk": 2})"), errc::missing, "block_size");
  refuses(chosen_blocks().with(R"({"topk": 2, "block_size": 0})"), errc::value, "block_size: expected an integer from 1");
  refuses(chosen_blocks().with(R"({"topk": 0, "block_size": 4})"), errc::value, "topk: expected an integer from 1");
  fails(errc::value, "causal: expected true", [] { chosen_blocks().with(R"({"topk": 2, "block_size": 4, "causal": false})").run(); });
  refuses(convolution().with(R"({"activation": "gelu"})"), errc::value, "activation: expected one of none, silu, got \"gelu\"");
  refuses(convolution().with(R"({"activation": "sigmoid"})"), errc::value, "activation");
  refuses(norm().with(R"({"group_size": 3})"), errc::value, "group_size");
  refuses(norm().with(R"({"group_size": 0})"), errc::value, "group_size");
  refuses(turn().with(R"({"rotary_dim": 3})"), errc::value, "rotary_dim");
  refuses(turn().with(R"({"rotary_dim": 10})"), errc::value, "rotary_dim");
  refuses(turn().with(R"({"base": 0})"), errc::value, "base");
}

TEST_CASE("unknown operators and modes are named") {
  fails(errc::unsupported, "\"mamba9\"", [] { ops::find_operator("mamba9"); });
  fails(errc::unsupported, "--mode: expected literal, scan, step or split, got \"backwards\"", [] { ops::parse_mode("backwards"); });
}

TEST_CASE("requests that mean nothing are told apart from errors") {
  for (const ops::mode how : {ops::mode::literal, ops::mode::step, ops::mode::split}) {
    CHECK_THROWS_AS(norm().run(how), ops::no_meaning);
    CHECK_THROWS_AS(turn().run(how), ops::no_meaning);
    if (how != ops::mode::literal) CHECK_THROWS_AS(window_attention().with(R"({"causal": false})").run(how), ops::no_meaning);
  }
}
