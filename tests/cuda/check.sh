#!/bin/sh
# check.sh NVCC INCLUDE OBJECT: compiles policies.cu with every policy that the headers define.
nvcc=$1 include=$2 object=$3
# Template policies aside, which policies.cu names itself.
policies=$(awk '/^struct [a-z0-9_]*_policy/ && last !~ /^template/ { printf "%sweft::%s", n++ ? ", " : "", $2 } { last = $0 }' "$include"/weft/recurrence/*.hpp)
echo "$policies"
case $policies in
  *,*,*,*,*,*,*,*) ;;
  *) echo "found no policies under $include"; exit 1 ;;
esac
printf '#define WEFT_TEST_POLICIES %s\n' "$policies" >"$object.hpp"
# Relaxed: views and bf16 use constexpr functions of the standard library (array, bit_cast) on the device.
"$nvcc" -std=c++20 --expt-relaxed-constexpr -I"$include" -Werror all-warnings -include "$object.hpp" -c "$(dirname "$0")/policies.cu" -o "$object"
