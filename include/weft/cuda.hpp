// weft on a GPU: the executor weft::cuda, device arrays, and the same verbs on the same mixers. Compiled by nvcc, for
// compute capability 8.0 and later; no package but CUDA. Calls only put work on the executor's stream. States are saved
// and restored on the host: weft::save(weft::copy(cpu, state), path), with weft/io/state_file.hpp.
#pragma once
#include "backend/cuda/attention_scan.hpp"
#include "backend/cuda/executor.hpp"
#include "backend/cuda/paged_cache.hpp"
#include "backend/cuda/recurrence_scan.hpp"
#include "core/verbs.hpp"
#include "layer/norm_cuda.hpp"
#include "layer/rotary_cuda.hpp"
#include "layer/short_conv_cuda.hpp"
#include "recurrence/all.hpp"
