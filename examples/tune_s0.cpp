// tune_s0: what tuning the initial states of a frozen recurrent model does and does not do, measured against its rivals.
#include <weft/core/error.hpp>
#include <weft/io/atomic_file.hpp>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "support/heat_map.hpp"
#include "support/program.hpp"
#include "tune/tiers.hpp"

namespace {

struct command {
  s0::effort effort;
  std::string svg, model, text;
  bool json = false;
};

std::string label(const s0::row& r) { return r.steps > 0 ? r.method + ", " + std::to_string(r.steps) + " steps" : r.method; }

void print(const s0::tier& t) {
  std::printf(
      "\n%s\n\n| method | parameters | rate | recall | retain | override | mean | cost at inference |\n|---|---|---|---|---|---|---|---|\n",
      t.name.c_str());
  for (const s0::row& r : t.rows) {
    const auto& s = r.scores;
    const bool rule = r.method.ends_with("a new rule");
    if (rule)
      std::printf("| %s | %lld | %g | %.3f | | | | %s |\n", label(r).c_str(), static_cast<long long>(r.parameters), r.rate, s.recall,
                  r.cost.c_str());
    else
      std::printf("| %s | %lld | %g | %.3f | %.3f | %.3f | %.3f | %s |\n", label(r).c_str(), static_cast<long long>(r.parameters), r.rate,
                  s.recall, s.retain, s.overridden, s.mean(), r.cost.c_str());
  }
}

void print(const s0::language& l) {
  std::printf(
      "\nC: a trained hybrid on a kind of text that it has not seen\n%s\n\n| method | parameters | rate | bits per byte | cost at "
      "inference |\n|---|---|---|---|---|\n",
      l.note.c_str());
  for (const auto& r : l.rows)
    std::printf("| %s | %lld | %g | %.3f | %s |\n", r.method.c_str(), static_cast<long long>(r.parameters), r.rate, r.bits, r.cost.c_str());
  std::printf("\ndecode: %.0f tokens/s without tuned states, %.0f with them; median of paired rounds: %.3f times\n", l.decode_without,
              l.decode_with, l.decode_ratio);
}

std::string drawn(std::span<const s0::tier> tiers) {
  std::vector<heat_map::panel> panels;
  for (const char* name : {"recall", "retain", "override", "mean"}) panels.push_back({name, "", {""}});
  std::vector<heat_map::row> rows;
  for (const s0::tier& t : tiers)
    for (const s0::row& r : t.rows)
      if (!r.method.ends_with("a new rule"))
        rows.push_back({t.name.substr(0, 3) + label(r),
                        std::to_string(r.parameters),
                        {{r.scores.recall}, {r.scores.retain}, {r.scores.overridden}, {r.scores.mean()}}});
  return heat_map::draw(
      "Adapting a frozen recurrent model to a table, in percent of right answers",
      {tiers[0].name, tiers[1].name,
       "recall: the table; retain: pairs of the context, as before; override: the context says otherwise. Grey: trained parameters."},
      panels, rows);
}

nlohmann::ordered_json json_of(std::span<const s0::tier> tiers, const std::optional<s0::language>& language) {
  nlohmann::ordered_json j;
  for (const s0::tier& t : tiers) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const s0::row& r : t.rows)
      rows.push_back({{"method", r.method},
                      {"steps", r.steps},
                      {"parameters", r.parameters},
                      {"rate", r.rate},
                      {"recall", r.scores.recall},
                      {"retain", r.scores.retain},
                      {"override", r.scores.overridden},
                      {"mean", r.scores.mean()},
                      {"cost", r.cost}});
    j["tiers"].push_back({{"name", t.name}, {"rows", rows}});
    for (const s0::threshold& x : t.thresholds)
      j["thresholds"].push_back({{"what", x.what}, {"got", x.got}, {x.at_least ? "at_least" : "at_most", x.limit}, {"holds", x.holds()}});
  }
  if (language) {
    for (const auto& r : language->rows)
      j["unseen_text"].push_back(
          {{"method", r.method}, {"parameters", r.parameters}, {"rate", r.rate}, {"bits_per_byte", r.bits}, {"cost", r.cost}});
    j["decode"] = {{"tokens_per_s_without", language->decode_without},
                   {"tokens_per_s_with", language->decode_with},
                   {"ratio", language->decode_ratio}};
  }
  return j;
}

int run(const command& c) {
  weft::require(c.model.empty() == c.text.empty(), weft::errc::missing, "--model, --text: expected both or none");
  std::optional<weft::io::atomic_file> svg;  // a path that cannot be written to is refused now
  if (!c.svg.empty()) svg.emplace(c.svg);
  std::optional<s0::language> language;  // first: a model or a text that cannot be read is refused now
  if (!c.model.empty()) language = s0::unseen_text(c.effort, c.model, c.text);
  const std::vector<s0::tier> tiers{s0::hand_built(c.effort), s0::trained_here(c.effort)};
  if (svg) {
    const std::string picture = drawn(tiers);
    svg->write(picture.data(), picture.size());
    svg->commit();
  }
  bool holds = true;
  for (const s0::tier& t : tiers)
    for (const s0::threshold& x : t.thresholds) holds &= x.holds();
  if (c.json) {
    std::printf("%s\n", json_of(tiers, language).dump().c_str());
  } else {
    for (const s0::tier& t : tiers) print(t);
    if (language) print(*language);
    std::printf("\n");
    for (const s0::tier& t : tiers)
      for (const s0::threshold& x : t.thresholds)
        std::printf("%-6s %s: %.3f, expected at %s %.2f\n", x.holds() ? "holds" : "MISSED", x.what.c_str(), x.got,
                    x.at_least ? "least" : "most", x.limit);
  }
  weft::require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, weft::errc::file, "standard output: cannot be written");
  return holds ? program::done : program::missed;
}

}  // namespace

int main(int argc, char** argv) {
  command c;
  CLI::App app("Tunes the initial states of frozen recurrent models, and what they are compared with. Exit 2: a threshold was missed.",
               "tune_s0");
  app.add_flag("--quick", c.effort.quick, "fewer methods, seeds, rates and steps");
  app.add_option("--threads", c.effort.threads, "trainings at a time")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--model", c.model, "folder of a trained hybrid model, for the tier on unseen text");
  app.add_option("--text", c.text, "the text that it has not seen");
  app.add_option("--svg", c.svg, "write a picture of the tables to this file");
  app.add_flag("--json", c.json, "print one JSON object instead of tables");
  return program::run(app, argc, argv, [&] { return run(c); });
}
