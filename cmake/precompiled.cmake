# A third of the compile time of our programs went into reading the same headers: targets with the same flags share them
# precompiled. WEFT_PRECOMPILED=OFF compiles as users do.
option(WEFT_PRECOMPILED "Our own programs share precompiled headers" ON)

# weft_precompile(NAME LIBRARIES... HEADERS header...) makes a target to be named in weft_reuse(target NAME).
function(weft_precompile name)
  cmake_parse_arguments(arg "" "" "LIBRARIES;HEADERS" ${ARGN})
  if(WEFT_PRECOMPILED)
    file(CONFIGURE OUTPUT ${name}.cpp CONTENT "")
    add_library(${name} OBJECT "${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp")
    target_link_libraries(${name} PRIVATE ${arg_LIBRARIES})
    target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  endif()
endfunction()

function(weft_reuse target name)
  if(WEFT_PRECOMPILED)
    target_precompile_headers(${target} REUSE_FROM ${name})
  endif()
endfunction()
