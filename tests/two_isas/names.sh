#!/bin/sh
# names.sh COMPILER INCLUDE: code for different instruction sets has different names. Only preprocesses.
names=$(for flags in -march=x86-64 -msse3 -mssse3 -msse4.1 -msse4.2 -mavx "-mavx -mfma" -mavx2 "-mavx2 -mf16c" "-mavx2 -mfma" "-mavx2 -mfma -mf16c" "-mavx2 -mfma -mf16c -mbmi -mbmi2" \
  -mavx512f "-mavx512f -mavx512cd" "-mavx512f -mavx512cd -mavx512dq" "-mavx512f -mavx512cd -mavx512dq -mavx512bw" "-mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl" \
  "-mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mavx512vnni"; do
  printf '#include <weft/core/config.hpp>\nWEFT_ISA\n' | "$1" -x c++ -std=c++20 -march=x86-64 $flags -I "$2" -E -P - | tail -n 1
done)
echo "$names"
[ "$(echo "$names" | grep -c '^isa_')" -eq 18 ] && [ -z "$(echo "$names" | sort | uniq -d)" ] || { echo "expected 18 names, all different"; exit 1; }
