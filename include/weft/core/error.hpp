// One exception type. Thrown at the public boundary, before anything is written.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "config.hpp"

namespace weft {
inline namespace v1 {

enum class errc {
  shape,        // rank, extent or stride
  heads,        // head counts that do not divide
  missing,      // a null view where elements are needed, a parameter that a file lacks
  overlap,      // an output shares elements with an input
  sequence,     // cu_seqlens
  value,        // an option or a value out of range
  capacity,     // a full cache
  file,         // a file that cannot be read or written, or lies
  unsupported,  // a dtype, class or option that is not known
  device,       // a call of a device's runtime that failed
};

class error : public std::runtime_error {
 public:
  error(errc code, const std::string& what) : std::runtime_error(what), code_(code) {}
  errc code() const noexcept { return code_; }

 private:
  errc code_;
};

}  // namespace v1

inline namespace WEFT_ISA {

// fail(errc::shape, "q: expected ", a, ", got ", b) throws weft::error with the parts as one sentence.
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(errc code, const Parts&... parts) {
  std::ostringstream text;
  text << "weft: ";
  (text << ... << parts);
  throw error(code, text.str());
}

template <class... Parts>
WEFT_INLINE void require(bool holds, errc code, const Parts&... parts) {
  if (!holds) [[unlikely]]
    fail(code, parts...);
}

}  // namespace WEFT_ISA
}  // namespace weft
