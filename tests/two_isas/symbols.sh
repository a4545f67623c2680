#!/bin/sh
# symbols.sh NM OBJECT OBJECT: of weft's functions, only those of inline namespace v1 may be defined in both objects. The
# linker keeps one copy of each, which may hold the instructions of either file: so those of v1 hold none that the older
# processor lacks (VEX and EVEX mnemonics begin with v).
nm=$1
# Mangled, because there a name comes before its arguments: _ZN4weft2v1...
defined() { "$nm" --defined-only "$1" | sed -n 's/^[0-9a-f]* [TWVtuU] \(_Z[A-Z]*N[KRO]*4weft\)/\1/p' | sort -u; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
defined "$2" >"$work/a"
defined "$3" >"$work/b"
for side in a b; do
  grep -q '4weft[0-9]*isa_' "$work/$side" || { echo "object $side defines no code of its instruction set: nothing was compared"; exit 1; }
done
comm -12 "$work/a" "$work/b" >"$work/both"
if grep -v '^_Z[A-Z]*N[KRO]*4weft2v1' "$work/both"; then
  echo "defined in both objects and not in weft::v1"
  exit 1
fi
for object in "$2" "$3"; do
  "${nm%nm}objdump" -d --no-show-raw-insn "$object" | awk '/^[0-9a-f]+ </ {name = substr($2, 2, length($2) - 3)} /\tv[a-z]/ {print name}' | sort -u >"$work/vex"
  if comm -12 "$work/vex" "$work/both" | grep .; then
    echo "defined in both objects, with instructions of the newer processor"
    exit 1
  fi
done
cat "$work/both"
echo "$(wc -l <"$work/both") functions of weft::v1 in both objects"
