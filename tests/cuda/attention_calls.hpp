// Attention on the GPU beside what the contract suite asks: compared with the definition on the host. Each returns the names of
// what differs.
#pragma once
#include <string>
#include <vector>

namespace contract {

std::vector<std::string> wrong_attention_lists();
std::vector<std::string> wrong_attention_sums();
std::vector<std::string> wrong_attention_graph();
std::vector<std::string> wrong_attention_16_bits();
std::vector<std::string> wrong_paged_cache();

}  // namespace contract
