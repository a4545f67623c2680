#!/bin/sh
# budget.sh NVCC INCLUDE OBJECT: one mixer's kernels, for prefill and decode, take nvcc 10 processor seconds at most, its headers aside.
nvcc=$1 include=$2 object=$3
# Sets `seconds`, of all commands so far; not in a subshell, which has run none.
spent() {
  times >"$object.times"
  seconds=$(awk 'NR == 2 { split($1, user, /[ms]/); print user[1] * 60 + user[2] }' "$object.times")
}
compile() {
  "$nvcc" -std=c++20 -O2 --expt-relaxed-constexpr -gencode=arch=compute_90a,code=sm_90a -I"$include" "$@" -cubin "$(dirname "$0")/one_mixer.cu" -o "$object" || exit 1
}
compile
spent
headers=$seconds
for mixer in 'gated_delta_rule<weft::bf16>' 'kda<weft::bf16>'; do
  spent
  before=$seconds
  compile "-DWEFT_ONE_MIXER=$mixer"
  spent
  echo "$mixer $seconds $before $headers" | awk '{ kernels = $2 - $3 - $4; printf "%s: %.1f s\n", $1, kernels; exit !(kernels > 0.5 && kernels <= 10) }' || exit 1
done
