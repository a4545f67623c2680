#include <weft/recurrence/gla.hpp>
#ifdef WEFT_BAD
weft::gla<int> mixer;
#else
weft::gla<weft::bf16> mixer;
#endif
