#include <weft/recurrence/gla.hpp>
#ifdef WEFT_BAD
weft::recurrence<weft::gla_policy, float, long> mixer;
#else
weft::recurrence<weft::gla_policy, float, weft::bf16> mixer;
#endif
