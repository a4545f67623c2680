// What the programs have in common: options, errors in one sentence, exit codes.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace program {

enum exit_code { done = 0, bad_input = 1, missed = 2, no_meaning = 3 };

// A request that means nothing here; the message says why.
struct meaningless : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Parses the options and runs body(), which returns the exit code.
template <class Body>
int run(CLI::App& app, int argc, char** argv, Body&& body) {
  const auto fail = [&](const char* what, int code) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), what);
    return code;
  };
  try {
    app.parse(argc, argv);
    return body();
  } catch (const CLI::Success& e) {  // --help
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return fail(e.what(), bad_input);
  } catch (const meaningless& e) {
    return fail(e.what(), no_meaning);
  } catch (const std::bad_alloc&) {
    return fail("not enough memory", bad_input);
  } catch (const std::exception& e) {
    return fail(e.what(), bad_input);
  }
}

inline void add_device(CLI::App& app, std::string& device) {
  app.add_option("--device", device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
}
inline void require_cpu(const std::string& device) {
  if (device != "cpu") throw meaningless("--device cuda: this program is built for the CPU alone");
}

}  // namespace program
