#include "tiles.hpp"

#include "../catch.hpp"

TEST_CASE("every instruction of the tile layer does what its layout says") {
  for (const std::string& name : contract::wrong_tiles()) FAIL_CHECK(name);
}
