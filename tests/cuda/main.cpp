// Catch2's program, which says so and leaves where there is no GPU.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include <weft/backend/cuda/executor.hpp>

#include "../catch.hpp"

int main(int count, char** arguments) {
  try {
    weft::cuda gpu;
  } catch (const weft::error& e) {
    std::printf("skipped: no GPU here that the executor takes (%s)\n", e.what());
    return 77;
  }
  return Catch::Session().run(count, arguments);
}
