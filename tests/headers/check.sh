#!/bin/sh
# check.sh COMPILER "FLAGS" [--together] HEADER...: each header compiles by itself, without a warning and without an earlier
# include; or all of them in one file.
compiler=$1 flags=$2
shift 2

# A header over OpenMP needs a compiler that has it.
openmp=-fopenmp
printf '#include <omp.h>\n' | $compiler $flags -fopenmp -fsyntax-only -x c++ - 2>/dev/null || openmp=

warnings='-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror'
if [ "$1" = --together ]; then
  shift
  for header; do
    case $header in *openmp*) [ -n "$openmp" ] || continue ;; esac
    printf '#include <%s>\n' "$header"
  done | $compiler $flags $openmp $warnings -fsyntax-only -x c++ -
  exit
fi

failed=0
for header; do
  extra=
  case $header in
    *openmp*)
      [ -n "$openmp" ] || { echo "left out, no OpenMP: $header"; continue; }
      extra=$openmp ;;
  esac
  printf '#include <%s>\n#include <%s>\n' "$header" "$header" |
    $compiler $flags $extra $warnings -fsyntax-only -x c++ - ||
    { echo "does not compile alone: $header"; failed=1; }
done
exit $failed
