#include "engines.hpp"

WEFT_ENGINES(template, double)
