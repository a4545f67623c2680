// Catch2's program, which says so and leaves where there is no GPU.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "../catch.hpp"
#include "device_run.hpp"

int main(int count, char** arguments) {
  if (!contract::device_there()) {
    std::puts("skipped: no GPU here of compute capability 8.0 or later");
    return 77;
  }
  return Catch::Session().run(count, arguments);
}
