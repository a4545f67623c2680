#!/bin/sh
# by_flags.sh COMPILER SOURCES PROGRAM "FLAGS": no build system, only flags; a $(command) in them runs now.
set -e
eval "flags=\"$4\""
echo "$1 $flags"
# shellcheck disable=SC2086  # a list of words
"$1" $flags "$2/program.cpp" "$2/second.cpp" -o "$3"
"$3"
