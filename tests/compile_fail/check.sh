#!/bin/sh
# check.sh FOLDER "FLAGS" --read COMPILER...   reads headers for every compiler once, into the folder, and then
# check.sh FOLDER "FLAGS" SOURCE COMPILER...   looks at one pair.
folder=$1 flags=$2 source=$3
shift 3
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for compiler; do
  first="$folder/$(basename "$compiler")/first.hpp"
  if [ "$source" = --read ]; then
    mkdir -p "${first%/*}"
    printf '#include <weft/%s>\n' attention/attention.hpp recurrence/delta_rule.hpp recurrence/gla.hpp io/state_file.hpp > "$first"
    $compiler $flags -x c++-header "$first" -o "$first.gch" || exit 1
    continue
  fi
  $compiler -include "$first" $flags -fsyntax-only "$source" || { echo "$compiler: the good half must compile"; exit 1; }
  if $compiler -include "$first" $flags -fsyntax-only -DWEFT_BAD "$source" 2>"$said"; then
    echo "$compiler: the bad half must not compile"
    exit 1
  fi
  error=$(grep -m 1 'error:' "$said")
  echo "$compiler: $error"
  # "weft: " and not "weft::": a sentence of ours, not a name in the compiler's.
  case $error in
    *'weft: '*) ;;
    *) echo "the first message must be ours"; exit 1 ;;
  esac
done
