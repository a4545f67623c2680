#include <weft/attention/attention.hpp>
struct nothing {};
#ifdef WEFT_BAD
weft::attention<float, nothing> mixer;
#else
weft::attention<float, weft::window> mixer;
#endif
