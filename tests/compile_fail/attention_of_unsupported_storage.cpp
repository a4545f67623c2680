#include <weft/attention/attention.hpp>
#ifdef WEFT_BAD
weft::attention<char> mixer;
#else
weft::attention<weft::fp16> mixer;
#endif
