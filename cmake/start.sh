#!/bin/sh
# One command from a fresh machine to a result: installs what is missing, configures and builds Release in build/, runs.
#   cmake/start.sh run            the main job on the data in the repository
#   cmake/start.sh test  [args]   all tests; arguments go to ctest
#   cmake/start.sh bench [args]   the default benchmarks; arguments go to weft_bench
#   cmake/start.sh compare [args] weft against its rivals: --ops, --threads, --quick
# BUILD_DIR names another build folder, CMAKE_ARGS more options for the configuration.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD_DIR:-build}
jobs=$(nproc 2>/dev/null || echo 2)
CXX=${CXX:-c++}
bench=ON  # the tests do without: it holds every engine once more
cuda=ON   # where no GPU is, the tests do without the programs' kernels: their own are the same

# A package is missing where its command, or its header as the compiler finds it, is.
lacks_command() { ! command -v "$1" >/dev/null 2>&1; }
lacks_header() {
  for header; do
    printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$header" | $CXX -E -x c++ - >/dev/null 2>&1 && return 1
  done
  return 0
}

install_missing() {
  missing=
  lacks_command cmake && missing="$missing cmake"
  lacks_command make && lacks_command ninja && missing="$missing make"
  lacks_command "${CXX%% *}" && missing="$missing g++"
  lacks_header xsimd/xsimd.hpp && missing="$missing libxsimd-dev"
  lacks_header Eigen/Core eigen3/Eigen/Core && missing="$missing libeigen3-dev"
  lacks_header CLI/CLI.hpp && missing="$missing libcli11-dev"
  lacks_header nlohmann/json.hpp && missing="$missing nlohmann-json3-dev"
  lacks_header catch2/catch_all.hpp catch2/catch.hpp && missing="$missing catch2"
  lacks_header benchmark/benchmark.h && missing="$missing libbenchmark-dev"
  for package; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0

  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    if lacks_command sudo; then as_root=none; elif [ -t 0 ]; then as_root=sudo; else as_root='sudo -n'; fi
  fi
  apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get"
  if lacks_command apt-get || [ "$as_root" = none ] || { [ "$as_root" = 'sudo -n' ] && ! sudo -n true 2>/dev/null; }; then
    echo "weft needs these Debian packages, or what they hold, and cannot install them here:$missing" >&2
    echo "As root: apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
  echo "Installing$missing" >&2
  $apt -qq update
  # shellcheck disable=SC2086  # a list of words
  $apt -qq install -y --no-install-recommends $missing </dev/null >&2
}

build_targets() {
  # shellcheck disable=SC2086
  cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DWEFT_BUILD_BENCH=$bench -DWEFT_CUDA=$cuda ${CMAKE_ARGS:-}
  cmake --build "$build" -j "$jobs" ${1:+--target "$@"}
}

run_main_job() {
  programs=$build/examples
  failed=0
  for layer in examples/data/layers/*.safetensors; do
    "$programs/run_layer" "$layer" || failed=1
  done
  operator=$build/operator.safetensors
  for sample in tests/data/golden/*__t21_b2_h3.safetensors; do
    "$programs/run_op" "$sample" --out "$operator" && echo "run_op ${sample##*/}: done" || failed=1
  done
  model=examples/data/tinylm
  "$programs/generate" --model "$model" --prompt "$(head -c 160 "$model/heldout.txt")" --tokens 200 || failed=1
  echo
  return $failed
}

job=${1:-help}
[ $# -gt 0 ] && shift
case $job in
  run)
    install_missing
    build_targets run_layer run_op generate >&2
    run_main_job
    ;;
  test)
    install_missing
    bench=OFF
    [ -e /dev/nvidiactl ] || cuda=OFF
    build_targets
    ctest --test-dir "$build" --output-on-failure --no-label-summary -j 2 "$@"
    ;;
  bench)
    install_missing
    build_targets weft_bench >&2
    "$build/bench/weft_bench" "$@"
    ;;
  compare)
    install_missing python3-venv
    build_targets weft_bench >&2
    python3 bench/compare/compare.py --build "$build" "$@"
    ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    [ "$job" = help ] || [ "$job" = --help ] || exit 1
    ;;
esac
