#!/bin/sh
# check.sh COMPILER "FLAGS" HEADER...: each header compiles by itself, without a warning and without an earlier include.
compiler=$1 flags=$2
shift 2

# A header over OpenMP needs a compiler that has it.
openmp=-fopenmp
printf '#include <omp.h>\n' | $compiler $flags -fopenmp -fsyntax-only -x c++ - 2>/dev/null || openmp=

failed=0
for header; do
  extra=
  case $header in
    *openmp*)
      [ -n "$openmp" ] || { echo "left out, no OpenMP: $header"; continue; }
      extra=$openmp ;;
  esac
  printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
    $compiler $flags $extra -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror -fsyntax-only -x c++ - ||
    { echo "does not compile alone: $header"; failed=1; }
done
exit $failed
