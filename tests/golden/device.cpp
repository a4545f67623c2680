// The golden cases on the GPU: every operator that has kernels there, as run_op --device cuda calls it.
#include "golden_run.hpp"
#include "support/device.hpp"

TEST_CASE("golden cases on the GPU") {
  try {
    ops::require_device();
  } catch (const ops::no_meaning& e) {
    WARN("skipped: " << e.what());
    return;
  }
  int held = 0;
  std::string without;
  for (const ops::op& op : ops::all_operators())
    for (const golden::test_case& which : golden::cases_of(op.name)) {
      const golden::loaded c(which);
      const weft::dtype computed = which.input_precision == "f64" ? weft::dtype::f64 : weft::dtype::f32;
      const auto bidirectional = which.attributes.find("\"causal\": false") != std::string::npos;
      for (const ops::mode how : {ops::mode::scan, ops::mode::step, ops::mode::split}) {
        if (how != ops::mode::scan && (!op.has_state || bidirectional)) continue;
        try {
          golden::check(c, how, computed, 0, true);
          ++held;
        } catch (const ops::no_meaning&) {
          without += " " + which.op + "/" + which.name;
          break;
        }
      }
    }
  UNSCOPED_INFO("without kernels:" << without);
  CHECK(held > 300);
}
