// Every recurrence policy.
#pragma once
#include "comba.hpp"
#include "delta_rule.hpp"
#include "dplr.hpp"
#include "gated_delta_product.hpp"
#include "gdn2.hpp"
#include "gla.hpp"
#include "hgrn2.hpp"
#include "linear_attention.hpp"
#include "mamba2.hpp"
#include "retention.hpp"
#include "rwkv6.hpp"
