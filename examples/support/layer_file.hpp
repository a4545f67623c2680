// One layer file: what a published layer computed, and what ours computes from the same parameters and inputs.
#pragma once
#include <weft/layer/registry.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "configuration.hpp"

namespace layer_file {

using weft::index;

// One stored tensor against ours.
struct comparison {
  std::string name;
  double max_abs = 0, rms = 0, rms_error = 0;
  double bound = 0;  // of max_abs
  bool holds = false;

  double relative() const { return rms > 0 ? max_abs / rms : max_abs; }
};

struct report {
  std::string layer_class;
  index parameters = 0, hidden = 0, tokens = 0, batch = 0, state_bytes = 0;
  std::vector<comparison> tensors;

  bool holds() const {
    return std::all_of(tensors.begin(), tensors.end(), [](const comparison& c) { return c.holds; });
  }
  // The largest of f over the tensors whose names start so.
  template <class F>
  double largest(const std::vector<std::string>& prefixes, F&& f) const {
    double most = 0;
    for (const comparison& c : tensors)
      for (const auto& p : prefixes)
        if (c.name.starts_with(p)) most = std::max(most, f(c));
    return most;
  }
};

// The text of a metadata entry, which must be there.
inline const std::string& metadata(const weft::tensor_file& file, const std::string& key) {
  const auto at = file.metadata().find(key);
  weft::require(at != file.metadata().end(), weft::errc::missing, file.name(), ": metadata ", key, ": expected a text, got nothing");
  return at->second;
}

// The class of the file: the first of `class` and the names in `same_as` that the registry knows; the first where it knows none.
template <class Registry>
std::string class_of(const weft::tensor_file& file, const Registry& known) {
  const std::string& own = metadata(file, "class");
  if (known.knows(own) || !file.metadata().contains("same_as")) return own;
  const auto same = configuration::parse(metadata(file, "same_as"), file.name() + ": metadata same_as");
  for (const auto& [name, difference] : same.items())
    if (known.knows(name)) return name;
  return own;
}

// The numbers of a tensor as double.
inline std::vector<double> numbers(const weft::tensor& t) {
  weft::tensor flat = t;
  flat.shape = {t.count()};
  const auto a = weft::to_array<double, 1>(flat);
  return {a.data(), a.data() + a.size()};
}

// A part of our state as files store it.
struct published_part {
  std::vector<index> shape;
  std::vector<double> numbers;
};

//   conv [B, W - 1, C] -> [B, C, W - 1];  recurrent [B, H, K, V] -> itself, or [B, H, V, K];
//   keys, values [B, H, slots, D] -> the last tokens of those `seen`, [B, H, tokens, D], oldest first
inline published_part published(const weft::tensor& part, bool transposed, index seen) {
  const std::vector<double> x = numbers(part);
  const auto& e = part.shape;
  const auto at = [&](index i) { return x[static_cast<std::size_t>(i)]; };
  published_part y;
  if (part.name == "conv") {
    y.shape = {e[0], e[2], e[1]};
    for (index b = 0; b < e[0]; ++b)
      for (index c = 0; c < e[2]; ++c)
        for (index i = 0; i < e[1]; ++i) y.numbers.push_back(at((b * e[1] + i) * e[2] + c));
  } else if (part.name == "recurrent" && transposed) {
    y.shape = {e[0], e[1], e[3], e[2]};
    for (index h = 0; h < e[0] * e[1]; ++h)
      for (index v = 0; v < e[3]; ++v)
        for (index k = 0; k < e[2]; ++k) y.numbers.push_back(at((h * e[2] + k) * e[3] + v));
  } else if (part.name == "keys" || part.name == "values") {
    const index tokens = std::min(seen, e[2]);
    y.shape = {e[0], e[1], tokens, e[3]};
    for (index h = 0; h < e[0] * e[1]; ++h)
      for (index p = seen - tokens; p < seen; ++p)
        for (index d = 0; d < e[3]; ++d) y.numbers.push_back(at((h * e[2] + p % e[2]) * e[3] + d));
  } else y = {e, x};
  return y;
}

template <weft::storage T>
class run {
  using R = weft::accumulate_t<T>;

 public:
  // Reads the layer; throws weft::error for a class that is not known, parameters that are missing or of a wrong shape.
  run(const weft::tensor_file& file, const weft::layer_registry<T>& known) : file_(file) {
    report_.layer_class = class_of(file, known);
    report_.layer_class.erase(0, report_.layer_class.rfind('.') + 1);
    weft::require(known.knows(report_.layer_class), weft::errc::unsupported, "class not known: ", report_.layer_class, " of ", file.name(),
                  "; expected one of ", known.names());
    const auto config = configuration::settings_of(configuration::parse(metadata(file, "config"), file.name() + ": metadata config"), file.name() + ": config");
    const auto module = configuration::settings_of(configuration::parse(metadata(file, "module"), file.name() + ": metadata module"), file.name() + ": module");
    const index number = module.has("layer_idx") ? module.integer("layer_idx", 0) : 0;
    layer_ = known.make(report_.layer_class, weft::parameters<T>(file), config, number);
    check_numbers();
    report_.hidden = layer_.hidden();
    x_ = read_input("input", weft::any_extent);
    report_.batch = x_.extent(0);
    decode_x_ = read_input("decode_input", report_.batch);
    report_.tokens = x_.extent(1);
    y_ = weft::array<T, 3>(x_.extent());
    decode_y_ = weft::array<T, 3>(decode_x_.extent());
  }

  void prefill(weft::cpu& cpu) {
    state_ = layer_.state({.batch = report_.batch, .capacity = report_.tokens + decode_x_.extent(1)});
    weft::scan(cpu, layer_, {.x = x_}, state_, {.y = y_});
  }
  // From a copy of the state after the prefill.
  void decode(weft::cpu& cpu) {
    decoded_ = state_;
    for (index t = 0; t < decode_x_.extent(1); ++t)
      weft::step(cpu, layer_, {.x = decode_x_.view().slice(1, t, 1)}, decoded_, {.y = decode_y_.view().slice(1, t, 1)});
  }

  // After prefill and decode.
  const report& compare() {
    errors_ = configuration::parse(metadata(file_, "float32_error"), file_.name() + ": metadata float32_error");
    report_.tensors.clear();
    report_.state_bytes = state_.bytes();
    compare_outputs("output", "output", y_);
    compare_state("state.", state_, report_.tokens);
    // Where the library's own decoding differs from its prefill, ours agrees with the prefill; the stored end state does not.
    const bool as_prefill = file_.find("decode_output_as_prefill") != nullptr;
    compare_outputs(as_prefill ? "decode_output_as_prefill" : "decode_output", "decode_output", decode_y_);
    if (!as_prefill) compare_state("final.", decoded_, report_.tokens + decode_tokens());
    return report_;
  }

  index decode_tokens() const { return decode_x_.extent(1); }

 private:
  // Counts the parameters; they, the inputs and the stored results must be numbers.
  void check_numbers() {
    static const std::vector<std::string> results{"output", "decode_", "state.", "final."}, constants{"input", "rotary.", "mup_vector", "slope_rate"};
    const auto starts = [](const weft::tensor& t, const auto& list) {
      return std::any_of(list.begin(), list.end(), [&](const auto& p) { return t.name.starts_with(p) && !t.name.ends_with(".weight"); });
    };
    for (const weft::tensor& t : file_.tensors()) {
      for (const double v : numbers(t))
        weft::require(std::isfinite(v), weft::errc::value, file_.name(), ": tensor ", t.name, ": expected finite numbers, got ", v);
      if (!starts(t, results) && !starts(t, constants)) report_.parameters += t.count();
    }
  }

  // [batch, time, hidden] of at least one sequence and one token: a file of none shows nothing.
  weft::array<T, 3> read_input(const char* name, index batch) {
    const weft::tensor& t = file_.at(name);
    const auto& e = t.shape;
    weft::require(e.size() == 3 && e[0] > 0 && e[1] > 0 && e[2] == report_.hidden && (batch == weft::any_extent || e[0] == batch), weft::errc::shape, file_.name(),
                  ": tensor ", name, ": expected ", weft::check::list(std::array{batch, weft::any_extent, report_.hidden}), " (-1: any above 0), got ", weft::check::list(e));
    return weft::to_array<T, 3>(t);
  }
  // The numbers of a stored result of this shape.
  std::vector<double> results(const weft::tensor& stored, const std::vector<index>& shape) {
    weft::require(stored.shape == shape, weft::errc::shape, file_.name(), ": tensor ", stored.name, ": expected ", weft::check::list(shape), ", got ", weft::check::list(stored.shape));
    return numbers(stored);
  }

  void compare_outputs(const std::string& name, const std::string& entry, const weft::array<T, 3>& y) {
    std::vector<double> got;
    for (index i = 0; i < y.size(); ++i) got.push_back(static_cast<double>(static_cast<R>(y.data()[i])));
    compare_numbers(name, entry, got, results(file_.at(name), {y.extent().begin(), y.extent().end()}));
  }
  // Files keep no key-value cache after decoding, and of no cache the length: the shape of its keys says it.
  void compare_state(const std::string& prefix, const weft::any_state& state, index seen) {
    const auto parts = state.parts();
    for (const weft::tensor& stored : file_.tensors())
      weft::require(!stored.name.starts_with(prefix) || std::any_of(parts.begin(), parts.end(), [&](const auto& t) { return prefix + t.name == stored.name && t.name != "length"; }),
                    weft::errc::missing, file_.name(), ": tensor ", stored.name, ": this layer's state has no such part");
    for (const weft::tensor& part : parts) {
      const bool cached = part.name == "keys" || part.name == "values";
      if (part.name == "length" || (cached && prefix == "final." && !file_.find(prefix + part.name))) continue;
      const weft::tensor& stored = file_.at(prefix + part.name);
      const auto ours = published(part, layer_.get().published_state_is_transposed(), seen);
      compare_numbers(stored.name, "state." + part.name, ours.numbers, part.name == "conv" ? last_inputs(stored, ours.shape) : results(stored, ours.shape));
    }
  }
  // A stored convolution may hold one input more, the oldest, which is never read again.
  std::vector<double> last_inputs(const weft::tensor& stored, std::vector<index> shape) {
    const index kept = shape.back();
    if (!stored.shape.empty() && stored.shape.back() != kept) ++shape.back();
    std::vector<double> x;
    const std::vector<double> all = results(stored, shape);
    for (std::size_t i = 0; i < all.size(); ++i)
      if (static_cast<index>(i) % shape.back() >= shape.back() - kept) x.push_back(all[i]);
    return x;
  }
  // As many numbers of ours as are stored.
  void compare_numbers(const std::string& name, const std::string& entry, const std::vector<double>& got, const std::vector<double>& stored) {
    comparison c{.name = name};
    double squares = 0, differences = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double apart = std::abs(got[i] - stored[i]);
      const double d = std::isfinite(apart) ? apart : std::numeric_limits<double>::infinity();  // no maximum keeps a NaN
      squares += stored[i] * stored[i];
      differences += d * d;
      c.max_abs = std::max(c.max_abs, d);
    }
    const double count = std::max<double>(1.0, static_cast<double>(got.size()));
    c.rms = std::sqrt(squares / count);
    c.rms_error = std::sqrt(differences / count);
    if constexpr (sizeof(T) == 2) {
      c.bound = 0.01 * c.rms;
      c.holds = c.rms_error <= c.bound;
    } else {
      weft::require(errors_.contains(entry) && errors_[entry].contains("max_abs") && errors_[entry]["max_abs"].is_number() && errors_[entry].contains("rms") && errors_[entry]["rms"].is_number(),
                    weft::errc::missing, file_.name(), ": metadata float32_error: expected max_abs and rms of ", entry);
      c.bound = std::max(4.0 * errors_[entry]["max_abs"].get<double>(), 2e-5 * errors_[entry]["rms"].get<double>());
      c.holds = c.max_abs <= c.bound;
    }
    report_.tensors.push_back(std::move(c));
  }

  const weft::tensor_file& file_;
  weft::any_layer<T> layer_;
  weft::array<T, 3> x_, y_, decode_x_, decode_y_;
  weft::any_state state_, decoded_;
  nlohmann::json errors_;
  report report_;
};

}  // namespace layer_file
