// Tier C: the hybrid of examples/data/tinylm on a kind of text that it has not seen.
#include <weft/layer/attention_checkpoints.hpp>
#include <weft/layer/attention_layer_vjp.hpp>
#include <weft/layer/delta_net_checkpoints.hpp>
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/tune/language_states.hpp>
#include <weft/tune/low_rank.hpp>
#include <weft/tune/soft_prefix.hpp>
#include <weft/tune/tuning.hpp>

#include <chrono>
#include <random>

#include "../support/configuration.hpp"
#include "../support/hybrid_model.hpp"
#include "tiers.hpp"

namespace s0 {
namespace {

using weft::array;
using model = weft::language_model<float>;
using tuned_set = weft::initial_states<weft::any_state>;

// A text in windows, each of which starts anew; its first byte is given.
struct windows {
  array<std::int64_t, 2> tokens, next;
};
windows cut(std::span<const unsigned char> text, index window) {
  const index count = std::ssize(text) / (window + 1);
  weft::require(count >= 1, weft::errc::value, "--text: expected at least ", 5 * (window + 1), " bytes");
  windows w{array<std::int64_t, 2>({count, window}), array<std::int64_t, 2>({count, window})};
  for (index i = 0; i < count; ++i)
    for (index t = 0; t < window; ++t) {
      w.tokens(i, t) = text[static_cast<std::size_t>(i * (window + 1) + t)];
      w.next(i, t) = text[static_cast<std::size_t>(i * (window + 1) + t + 1)];
    }
  return w;
}

struct texts {
  windows train, choose, report;
};

// What a method makes of the model: hidden states to put in front, other starts, other weights.
class adapter {
 public:
  explicit adapter(const model& m) : m_(m) {}
  virtual ~adapter() = default;
  virtual std::vector<weft::trained<float>> list() = 0;
  virtual double l2() const { return 0; }
  // The mean loss in nats; adds gradients.
  virtual double train(const windows& w) = 0;
  double bits(const windows& w) { return loss(w, {}).bits(); }
  weft::cpu cpu;

 protected:
  virtual const model& model_now() { return m_; }  // with what was trained in it
  virtual std::vector<weft::any_state> start(index n) { return m_.state({.batch = n}); }
  virtual array<float, 3> in(array<float, 3> x) { return x; }
  virtual array<std::int64_t, 2> targets(const array<std::int64_t, 2>& next) { return next; }
  array<float, 3> embedded(const windows& w) {
    array<float, 3> x({w.tokens.extent(0), w.tokens.extent(1), m_.hidden()});
    weft::embed(cpu, m_.in, w.tokens.view(), x);
    return x;
  }
  weft::token_loss loss(const windows& w, const weft::language_wanted<float>& wanted) {
    const model& now = model_now();
    auto states = start(w.tokens.extent(0));
    const auto x = in(embedded(w));
    const auto asked = targets(w.next);
    now.make_room(states, x.extent(1));
    weft::hidden_states<float>(cpu, now, x, states, tape);
    return weft::language_loss(cpu, now, tape, asked.view(), wanted);
  }
  const model& m_;
  weft::language_tape<float> tape;
};

// Tuned starts of recurrent blocks, of attention (virtual keys), or of both.
class states final : public adapter {
 public:
  states(const model& m, const std::vector<index>& recurrent, const std::vector<index>& attention, index virtual_keys)
      : adapter(m), set_(weft::zero_states(m, std::span(recurrent), {.factor = 1.0})) {
    std::mt19937 bits(5);
    std::normal_distribution<float> draw(0, 1);
    for (const index b : attention) {
      auto s = m.blocks[static_cast<std::size_t>(b)].mixer.state({.batch = 1, .capacity = virtual_keys});
      for (const weft::tensor& t : s.parts())
        if (t.name == "keys")
          for (float& x : weft::numbers_of<float>(t)) x = draw(bits);  // values of zero: at first they only take weight
        else if (t.name == "length") weft::numbers_of<std::int64_t>(t)[0] = virtual_keys;
      set_.raw.emplace(b, std::move(s));
    }
    training_.emplace(set_);
  }
  std::vector<weft::trained<float>> list() override { return training_->list(); }
  double l2() const override { return 5e-4; }
  double train(const windows& w) override { return weft::tuned_loss<float>(cpu, m_, *training_, embedded(w), w.next.view(), tape).mean(); }
  const tuned_set& set() const { return set_; }

 private:
  std::vector<weft::any_state> start(index n) override {
    const std::vector<const tuned_set*> rows(static_cast<std::size_t>(n), &set_);
    return weft::begin<float>(m_, rows);
  }
  tuned_set set_;
  std::optional<weft::state_training<float, weft::any_state>> training_;
};

class prefix final : public adapter {
 public:
  prefix(const model& m, index count) : adapter(m), prefix_(random(m, count)) {}
  std::vector<weft::trained<float>> list() override { return prefix_.list(); }
  double train(const windows& w) override {
    array<float, 3> d_x({w.tokens.extent(0), prefix_.tokens() + w.tokens.extent(1), m_.hidden()});
    const double nats = loss(w, {.x = d_x}).mean();
    prefix_.add(d_x.view());
    return nats;
  }

 private:
  // Embeddings of any bytes.
  static array<float, 2> random(const model& m, index count) {
    std::mt19937 bits(5);
    array<float, 2> a({count, m.hidden()});
    for (index i = 0; i < count; ++i) std::copy_n(&m.in.weight(static_cast<index>(bits() % 256), 0), m.hidden(), &a(i, 0));
    return a;
  }
  array<float, 3> in(array<float, 3> x) override { return prefix_.before(x.view()); }
  array<std::int64_t, 2> targets(const array<std::int64_t, 2>& next) override { return prefix_.before(next.view(), weft::no_target); }
  weft::soft_prefix<float> prefix_;
};

// The offsets of a model that has them.
class offsets final : public adapter {
 public:
  explicit offsets(model m) : adapter(m_own_), m_own_(std::move(m)), d_(weft::zero_gradients(m_own_)) {
    weft::for_each_parameter(m_own_, d_, [&](const std::string& name, std::span<float> value, std::span<float> gradient, bool) {
      if (name.ends_with(".offset")) list_.push_back({name, value, gradient});
    });
  }
  std::vector<weft::trained<float>> list() override { return list_; }
  double train(const windows& w) override { return loss(w, {.parameters = &d_}).mean(); }

 private:
  model m_own_;
  weft::language_gradients<float> d_;
  std::vector<weft::trained<float>> list_;
};

class low_rank final : public adapter {
 public:
  // Of the matrices whose names end as one of `ends`.
  low_rank(const model& m, index rank, const std::vector<std::string>& ends)
      : adapter(m_own_), m_own_(m), d_(weft::zero_gradients(m)), change_(rank, 2.0, 5) {
    for (std::size_t i = 0; i < m_own_.blocks.size(); ++i) {
      const auto add = [&](const std::string& name, std::span<float> value, std::span<float> gradient, const std::vector<index>& shape) {
        for (const std::string& end : ends)
          if (name.ends_with(end) && shape.size() == 2)
            change_.add("blocks." + std::to_string(i) + "." + name, weft::view<float, 2>(value.data(), {shape[0], shape[1]}),
                        weft::view<float, 2>(gradient.data(), {shape[0], shape[1]}));
      };
      auto& b = m_own_.blocks[i];
      auto& d = d_.blocks[i];
      const auto own = b.mixer.parameters(), gradients = d.mixer.list();
      for (std::size_t p = 0; p < own.size(); ++p)
        add((own[0].name == "q.weight" ? "attention." : "recurrent.") + own[p].name, own[p].numbers, gradients[p].numbers, own[p].shape);
      weft::for_each_parameter(b.inner, d.inner, [&](const std::string& name, auto& a, auto& da) {
        add("inner." + name, {a.data(), static_cast<std::size_t>(a.size())}, {da.data(), static_cast<std::size_t>(da.size())},
            {a.extent().begin(), a.extent().end()});
      });
    }
  }
  std::vector<weft::trained<float>> list() override { return change_.list(); }
  double train(const windows& w) override {
    const double nats = loss(w, {.parameters = &d_}).mean();
    change_.collect();
    return nats;
  }

 private:
  const model& model_now() override {
    change_.merge();
    return m_own_;
  }
  model m_own_;
  weft::language_gradients<float> d_;
  weft::low_rank_weights<float> change_;
};

struct candidate {
  std::string name, cost;
  std::function<std::unique_ptr<adapter>()> make;
};

// The blocks of a published checkpoint with their gradients; `offsets`: with an offset of zeros in every delta net.
model with_gradients(model m, const std::filesystem::path& folder, bool offsets) {
  const auto config = configuration::read_settings(folder / "config.json");
  const auto file = weft::tensor_file::read(folder / "model.safetensors");
  for (std::size_t b = 0; b < m.blocks.size(); ++b) {
    const weft::parameters<float> own(file, "model.layers." + std::to_string(b) + ".");
    if (config.text("layer_types." + std::to_string(b)) == "full_attention") {
      m.blocks[b].mixer = weft::erase_with_gradients(weft::load_qwen3_next_attention<float>(own.below("self_attn."), config));
      continue;
    }
    auto l = weft::load_qwen3_next_delta_net<float>(own.below("linear_attn."), config);
    if (offsets) l.offset = array<float, 3>({l.options.value_heads, l.options.key_dim, l.options.value_dim});
    m.blocks[b].mixer = weft::erase_with_gradients(std::move(l));
  }
  return m;
}

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + std::ssize(x) / 2, x.end());
  return x[x.size() / 2];
}

// Rounds of decoding from zeros and from the tuned states in turn, each the other's neighbour in time.
void time_decoding(language& l, const hybrid::model& m, const tuned_set& set, bool quick) {
  constexpr index tokens = 64;
  const int rounds = quick ? 5 : 41;
  weft::cpu cpu;
  std::vector<double> without, with, ratios;
  const std::vector<const tuned_set*> row{&set};
  for (int i = 0; i < rounds; ++i) {
    double rate[2];
    for (int turn = 0; turn < 2; ++turn) {
      const bool tuned = (turn == 0) == (i % 2 == 0);
      auto state = m.state();
      if (tuned) state.layers = weft::begin<float>(m.weights(), row);
      m.make_room(state, tokens);
      const auto begin = std::chrono::steady_clock::now();
      for (index t = 0; t < tokens; ++t) {
        const auto byte = static_cast<unsigned char>('a' + t % 26);
        m.feed(cpu, {&byte, 1}, state);
      }
      rate[tuned] = static_cast<double>(tokens) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    without.push_back(rate[0]);
    with.push_back(rate[1]);
    ratios.push_back(rate[1] / rate[0]);
  }
  l.decode_without = median(without);
  l.decode_with = median(with);
  l.decode_ratio = median(ratios);
}

}  // namespace

language unseen_text(const effort& e, const std::filesystem::path& folder, const std::filesystem::path& text_file) {
  const hybrid::model loaded(folder);
  const model m = with_gradients(loaded.weights(), folder, false);
  const std::string text = configuration::read_text(text_file);
  const auto bytes = std::span(reinterpret_cast<const unsigned char*>(text.data()), text.size());
  const index window = e.quick ? 128 : 256, train = (e.quick ? 4 : 8) * (window + 1);
  const auto part = bytes.size() / 5, held = static_cast<std::size_t>((e.quick ? 16 : 64) * (window + 1));
  const texts t{cut(bytes.first(std::min(bytes.size() * 3 / 5, static_cast<std::size_t>(train))), window),
                cut(bytes.subspan(3 * part, std::min(part, held)), window), cut(bytes.subspan(4 * part, std::min(part, held)), window)};
  std::vector<index> recurrent, attention;
  for (std::size_t b = 0; b < m.blocks.size(); ++b) {
    const auto parts = m.blocks[b].mixer.state({.batch = 1}).parts();
    const bool keys = std::any_of(parts.begin(), parts.end(), [](const weft::tensor& p) { return p.name == "keys"; });
    (keys ? attention : recurrent).push_back(static_cast<index>(b));
  }

  std::vector<candidate> all{
      {"S0, recurrent blocks", "none", [&] { return std::make_unique<states>(m, recurrent, std::vector<index>(), 0); }},
      {"S0 and 16 virtual keys in attention", "16 keys a query", [&] { return std::make_unique<states>(m, recurrent, attention, 16); }},
      {"16 virtual keys in attention", "16 keys a query", [&] { return std::make_unique<states>(m, std::vector<index>(), attention, 16); }},
      {"prefix, 16 soft tokens", "16 tokens", [&] { return std::make_unique<prefix>(m, 16); }},
      {"state-offset (read-out)", "a second read", [&] { return std::make_unique<offsets>(with_gradients(m, folder, true)); }},
      {"LoRA r19 on attention projections", "merge",
       [&] {
         return std::make_unique<low_rank>(
             m, 19, std::vector<std::string>{"attention.q.weight", "attention.k.weight", "attention.v.weight", "attention.out.weight"});
       }},
      {"LoRA r10 on recurrent projections", "merge",
       [&] {
         return std::make_unique<low_rank>(m, 10, std::vector<std::string>{"recurrent.qkv.weight", "recurrent.out.weight"});
       }},
      {"LoRA r2 on all projections", "merge", [&] {
         return std::make_unique<low_rank>(m, 2,
                                           std::vector<std::string>{"attention.q.weight", "attention.k.weight", "attention.v.weight",
                                                                    "attention.out.weight", "recurrent.qkv.weight", "recurrent.out.weight",
                                                                    "inner.gate.weight", "inner.up.weight", "inner.down.weight"});
       }}};
  if (e.quick) all.resize(2);
  const std::vector<double> rates = e.quick ? std::vector{1e-2} : std::vector{3e-3, 1e-2, 3e-2};
  const index steps = e.quick ? 3 : 20;

  struct trial {
    std::size_t which;
    double rate, chosen_by = 0, bits = 0;
    index parameters = 0;
  };
  std::vector<trial> trials;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const double rate : rates) trials.push_back({i, rate});
  language l;
  states plain(m, recurrent, {}, 0);
  l.rows.push_back({"frozen", "-", 0, 0, plain.bits(t.report)});
  std::optional<tuned_set> tuned;
  {
    progress bar("C: tuning the hybrid", std::ssize(trials));
    for_all(e.threads, std::ssize(trials), [&](index i) {
      trial& one = trials[static_cast<std::size_t>(i)];
      const auto a = all[one.which].make();
      const auto list = a->list();
      for (const auto& p : list) one.parameters += std::ssize(p.value);
      weft::tune(a->cpu, list, {.steps = steps, .rate = one.rate, .l2 = a->l2()}, [&](index) { return a->train(t.train); });
      one.chosen_by = a->bits(t.choose);
      one.bits = a->bits(t.report);
      if (i == 0) tuned = dynamic_cast<const states&>(*a).set();
      bar.done();
    });
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const trial* best = nullptr;
    for (const trial& one : trials)
      if (one.which == i && (!best || one.chosen_by < best->chosen_by)) best = &one;
    l.rows.push_back({all[i].name, all[i].cost, best->parameters, best->rate, best->bits});
  }
  l.note = std::to_string(steps) + " steps over " + std::to_string(t.train.tokens.size()) + " bytes in windows of " +
           std::to_string(window) + "; rates chosen on " + std::to_string(t.choose.tokens.size()) +
           " other bytes, bits per byte of the last " + std::to_string(t.report.tokens.size());
  time_decoding(l, loaded, *tuned, e.quick);
  return l;
}

}  // namespace s0
