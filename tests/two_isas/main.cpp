// Makes a state in one file and folds tokens into it in the other, and back: all ways agree with the literal form.
#include <cstdio>
#include <cstring>
#include <random>

#include "../difference.hpp"
#include "shared.hpp"

namespace {

template <class Array>
Array random(Array a, float low, float high) {
  static std::mt19937 numbers(7);
  std::uniform_real_distribution<float> between(low, high);
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = between(numbers);
  return a;
}

}  // namespace

int main() {
  if (!std::strcmp(base::isa(), wide::isa())) return std::printf("both files say %s\n", base::isa()), 1;
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return std::printf("linked; no AVX2 here to run\n"), 0;
#endif
  const weft::index T = 37;
  using rank4 = weft::array<float, 4>;
  using rank3 = weft::array<float, 3>;
  const tokens in{random(rank4({1, T, 2, 24}), -1, 1), random(rank4({1, T, 2, 24}), -1, 1), random(rank4({1, T, 2, 40}), -1, 1),
                  random(rank3({1, T, 2}), -0.5, 0), random(rank3({1, T, 2}), 0, 1)};
  rank4 expected({1, T, 2, 40}), got({1, T, 2, 40});
  state truth = base::make();
  base::literal(in, truth, expected);
  base::literal(in, truth, expected);

  using make = state (*)();
  using fold = void (*)(const tokens&, state&, rank4&);
  const struct { const char* name; make begin; fold first, second; } ways[] = {
      {"made by base, folded by wide then base", base::make, wide::scan, base::scan},
      {"made by wide, folded by base then wide", wide::make, base::scan, wide::scan},
      {"literal by wide, then scanned by base", base::make, wide::literal, base::scan},
  };
  int failed = 0;
  for (const auto& way : ways) {
    state s = way.begin();
    way.first(in, s, got);
    way.second(in, s, got);
    const double o = test::largest_difference(got, expected), ht = test::largest_difference(s.matrix, truth.matrix);
    const bool holds = o < 1e-5 && ht < 1e-5;  // values of order 1, sums of 24 products
    std::printf("%s and %s, %s: o %.1e, state %.1e%s\n", base::isa(), wide::isa(), way.name, o, ht, holds ? "" : "  DIFFERS");
    failed |= !holds;
  }

  weft::any_state counted = base::layer().state({.batch = 1});
  wide::count(counted);
  base::count(counted);
  const weft::any_state copy = counted;
  const float seen = *reinterpret_cast<const float*>(copy.parts().at(0).data);
  std::printf("a state behind one type, folded by both files: %g of 6 tokens\n", static_cast<double>(seen));
  return failed | (seen != 6);
}
