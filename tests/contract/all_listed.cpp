// A policy that nobody registered would be tested by nothing.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>

#include "each.hpp"

TEST_CASE("every recurrence policy is under contract") {
  const auto folder = std::filesystem::path(WEFT_TEST_DATA) / ".." / ".." / "include" / "weft" / "recurrence";
  const std::regex policy("struct (\\w+)_policy\\b");
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path());
    const std::string text(std::istreambuf_iterator<char>(file), {});
    for (std::sregex_iterator at(text.begin(), text.end(), policy), end; at != end; ++at, ++found) {
      const std::string name = (*at)[1];
      const bool listed = std::any_of(contract::all_subjects().begin(), contract::all_subjects().end(), [&](const auto& m) {
        return m->name == name || m->name.starts_with(name + " ");
      });
      INFO(entry.path().filename().string() << ": add<...>(\"" << name << "\") in tests/contract/mixers_*.cpp");
      CHECK(listed);
    }
  }
  CHECK(found >= 16);
}
