#!/bin/sh
# budget.sh NVCC INCLUDE OBJECT: one mixer's kernels, for prefill and decode, take nvcc 10 processor seconds at most, its headers aside;
# on a slower machine five times what those take, which are 2 where the kernels are 8.
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
compile '-DWEFT_ONE_MIXER=kda<weft::bf16>'
spent
echo "$seconds $headers" | awk '{ kernels = $1 - 2 * $2; printf "%.1f s\n", kernels; exit !(kernels > 0.5 && (kernels <= 10 || kernels <= 5 * $2)) }'
