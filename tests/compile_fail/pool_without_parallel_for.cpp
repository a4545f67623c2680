#include <weft/core/executor.hpp>
struct pool {
  int workers() const { return 1; }
#ifndef WEFT_BAD
  template <class F>
  void parallel_for(weft::index n, F&& f) {
    for (weft::index i = 0; i < n; ++i) f(i, 0);
  }
#endif
};
pool mine;
weft::cpu cpu{mine};
