#!/bin/sh
# check.sh SOURCE "FLAGS" COMPILER...
source=$1 flags=$2
shift 2
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for compiler; do
  $compiler $flags -fsyntax-only "$source" || { echo "$compiler: the good half must compile"; exit 1; }
  if $compiler $flags -fsyntax-only -DWEFT_BAD "$source" 2>"$said"; then
    echo "$compiler: the bad half must not compile"
    exit 1
  fi
  first=$(grep -m 1 'error:' "$said")
  echo "$compiler: $first"
  # "weft: " and not "weft::": a sentence of ours, not a name in the compiler's.
  case $first in
    *'weft: '*) ;;
    *) echo "the first message must be ours"; exit 1 ;;
  esac
done
