#include "support/recall_tasks.hpp"

#include <weft/core/error.hpp>

#include "../catch.hpp"

namespace {

const recall::sizes few{.writes = {8, 32}, .letters = {1, 3, 33}, .streams = 1, .words = 32};

std::vector<double> shares(std::string_view mixer, recall::task t, unsigned seed = 3) {
  weft::cpu cpu;
  const recall::mixer& m = recall::find_mixer(mixer);
  const recall::outcome o = recall::run(cpu, m, t, few, seed);
  CHECK(recall::missed(m, t, o).empty());
  return o.right;
}

}  // namespace

TEST_CASE("pairs are recalled where a state has room, by attention always") {
  CHECK(shares("linear_attention", recall::task::pairs) == std::vector<double>{1, 1});
  CHECK(shares("delta_rule", recall::task::pairs).front() == 1);
  CHECK(shares("softmax_attention", recall::task::pairs) == std::vector<double>{1, 1});
  CHECK(shares("softmax_attention", recall::task::rewrites) == std::vector<double>{1, 1});
  CHECK(shares("linear_attention", recall::task::rewrites).back() < 0.8);
}

TEST_CASE("words of permutations are followed by the states that can reflect, all six by those that can do two at once") {
  const std::vector<double> all{1, 1, 1};
  for (const char* mixer : {"delta_rule", "kda", "gdn2", "comba", "rwkv7", "dplr", "gated_delta_product"}) CHECK(shares(mixer, recall::task::swaps) == all);
  for (const char* mixer : {"dplr", "gated_delta_product"}) CHECK(shares(mixer, recall::task::words) == all);
  for (const char* mixer : {"gla", "mamba2", "rwkv6", "softmax_attention"}) CHECK(shares(mixer, recall::task::words).back() < 0.5);
  CHECK(shares("delta_rule", recall::task::words).back() < 0.5);
}

TEST_CASE("a miss is said") {
  const recall::mixer& m = recall::find_mixer("gated_delta_product");
  CHECK(recall::missed(m, recall::task::words, {.right = {1, 0.9}, .bytes = 0}) == "gated_delta_product, words: expected all answers right, got 0.900000");
  CHECK(!recall::missed(recall::find_mixer("gla"), recall::task::words, {.right = {1, 0.9}, .bytes = 0}).empty());
}

TEST_CASE("a mixer that is not known is named") {
  CHECK_THROWS_WITH(recall::find_mixer("lstm"), Catch::Matchers::Contains("--mixers: expected some of linear_attention, ") && Catch::Matchers::EndsWith("got lstm"));
  for (const recall::mixer& m : recall::all_mixers()) CHECK(!recall::way(m).empty());
}
