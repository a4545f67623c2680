#include "trainer.hpp"

#include <cinttypes>
#include <cmath>
#include <cstdio>

#include "sampling.hpp"

namespace hybrid {
namespace {

using weft::errc;
using weft::require;

void check(const training& how) {
  const auto count = [](const char* name, index x, index least) { require(x >= least && x <= index{1} << 31, errc::value, name, ": expected ", least, " to 2^31, got ", x); };
  count("steps", how.steps, 0), count("batch", how.batch, 1), count("length", how.length, 1), count("warm_up", how.warm_up, 0);
  require(how.rate > 0 && std::isfinite(how.rate), errc::value, "rate: expected a positive number, got ", how.rate);
  require(how.last >= 0 && how.last <= 1, errc::value, "last: expected 0 to 1, got ", how.last);
  require(how.decay >= 0 && std::isfinite(how.decay), errc::value, "decay: expected 0 or more, got ", how.decay);
  require(how.clip > 0, errc::value, "clip: expected a positive number, got ", how.clip);
}

std::string exact(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

// FNV-1a.
std::string fingerprint_of(std::span<const unsigned char> text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, hash);
  return digits;
}

}  // namespace

trainer::trainer(const description& d, const training& how, std::span<const unsigned char> text)
    : shape_(d), how_(how), text_(text), length_(std::min(how.length, std::ssize(text) - 1)), adam_({.beta2 = how.beta2, .decay = how.decay}) {
  check(how);
  require(std::ssize(text) >= 2, errc::value, "text: expected at least two bytes to train on, got ", text.size());
  model_ = make_model(d, how.seed);
  gradients_ = weft::zero_gradients(model_);
  weft::for_each_parameter(model_, gradients_, [&](const std::string& name, std::span<float> value, std::span<float> gradient, bool matrix) {
    list_.push_back({name, value, gradient, matrix});
  });
}

index trainer::parameters() const {
  std::size_t n = 0;
  for (const auto& p : list_) n += p.value.size();
  return static_cast<index>(n);
}

double trainer::step(weft::cpu& cpu) {
  const index now = done();
  weft::array<std::int64_t, 2> tokens({how_.batch, length_}), targets(tokens.extent());
  for (index b = 0; b < how_.batch; ++b) {
    const double place = sampling::uniform(how_.seed, static_cast<std::uint64_t>(now * how_.batch + b));
    const auto first = static_cast<std::size_t>(place * static_cast<double>(std::ssize(text_) - length_));
    for (index t = 0; t < length_; ++t) {
      tokens(b, t) = text_[first + static_cast<std::size_t>(t)];
      targets(b, t) = text_[first + static_cast<std::size_t>(t) + 1];
    }
  }
  weft::clear_gradients<float>(list_);
  weft::array<float, 3> x({how_.batch, length_, model_.hidden()}), d_x(x.extent());
  weft::embed(cpu, model_.in, std::as_const(tokens).view(), x);
  auto states = model_.state({.batch = how_.batch, .heads = 0, .key_dim = 0, .value_dim = 0, .capacity = length_});
  weft::hidden_states<float>(cpu, model_, x, states, tape_);
  const auto loss = weft::language_loss<float>(cpu, model_, tape_, std::as_const(targets).view(), {.x = d_x, .states = nullptr, .parameters = &gradients_});
  weft::embed_vjp<float>(cpu, std::as_const(tokens).view(), d_x, gradients_.in);
  weft::check_gradients<float>(list_, now);
  require(std::isfinite(loss.sum), errc::value, "loss: expected a finite number, got ", loss.sum, " in step ", now);
  weft::clip_gradients<float>(list_, how_.clip);
  adam_.step(cpu, list_, weft::cosine_schedule{.peak = how_.rate, .warm_up = how_.warm_up, .steps = how_.steps, .last = how_.last}(now));
  return loss.bits();
}

std::vector<std::pair<std::string, std::string>> trainer::run() const {
  return {{"model", config_text(shape_)},
          {"steps", std::to_string(how_.steps)},
          {"batch", std::to_string(how_.batch)},
          {"length", std::to_string(length_)},
          {"rate", exact(how_.rate)},
          {"last", exact(how_.last)},
          {"warm_up", std::to_string(how_.warm_up)},
          {"decay", exact(how_.decay)},
          {"beta2", exact(how_.beta2)},
          {"clip", exact(how_.clip)},
          {"seed", std::to_string(how_.seed)},
          {"text", fingerprint_of(text_)}};
}

void trainer::save(const std::filesystem::path& path) {
  weft::tensor_writer writer;
  writer.metadata("format", "weft.training");
  writer.metadata("version", "1");
  for (const auto& [key, value] : run()) writer.metadata(key, value);
  add_parameters(model_, writer, "value");
  adam_.save_parts(writer);
  writer.write(path);
}

void trainer::resume(const std::filesystem::path& path) {
  const auto file = weft::tensor_file::read(path);
  const auto expect = [&](const std::string& key, const std::string& value) {
    const auto at = file.metadata().find(key);
    const std::string got = at == file.metadata().end() ? "nothing" : weft::io::quoted(at->second);
    require(got == weft::io::quoted(value), errc::file, file.name(), ": metadata ", key, ": expected ", weft::io::quoted(value), ", as this run has it, got ", got);
  };
  expect("format", "weft.training");
  expect("version", "1");
  for (const auto& [key, value] : run()) expect(key, value);
  auto adam = adam_;
  adam.restore_parts(list_, file);
  require(adam.steps() >= 0 && adam.steps() <= how_.steps, errc::value, file.name(), ": tensor adam.steps: expected 0 to ", how_.steps, ", got ", adam.steps());
  load_parameters(model_, file, "value");
  adam_ = std::move(adam);
}

}  // namespace hybrid
