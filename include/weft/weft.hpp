// weft: sequence-mixing layers for C++20. This header is all of the CPU side that needs no package but xsimd.
#pragma once
#include "backend/cpu/recurrence_scan.hpp"
#include "backend/cpu/recurrence_step.hpp"
#include "core/executor.hpp"
#include "core/verbs.hpp"
#include "recurrence/all.hpp"
#include "recurrence/literal.hpp"
