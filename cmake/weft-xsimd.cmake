# xsimd::xsimd, or weft_XSIMD_MISSING with the reason. Asked for without a version: the package of 8.1 refuses ranges that
# it fulfils. 8.1 names its target xsimd, and links xtl (for complex numbers) without depending on its package: only the
# include directory is taken over.
# Global: a host that adds weft as a folder links it from a scope above this one.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL TRUE)
find_package(xsimd QUIET)
unset(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL)
if(NOT xsimd_FOUND)
  set(weft_XSIMD_MISSING "weft needs xsimd 8.1 or later (Debian: libxsimd-dev), found none")
elseif(xsimd_VERSION VERSION_LESS 8.1)
  set(weft_XSIMD_MISSING "weft needs xsimd 8.1 or later, found ${xsimd_VERSION}")
elseif(NOT TARGET xsimd::xsimd)
  add_library(xsimd::xsimd INTERFACE IMPORTED GLOBAL)
  target_include_directories(xsimd::xsimd INTERFACE $<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
endif()
