# What engines/engines.hpp declares. Nothing computes in double that is timed.
add_library(weft_engines STATIC EXCLUDE_FROM_ALL "${CMAKE_CURRENT_LIST_DIR}/engines/float.cpp" "${CMAKE_CURRENT_LIST_DIR}/engines/double.cpp")
target_include_directories(weft_engines PUBLIC "${CMAKE_CURRENT_LIST_DIR}/engines")
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/engines/double.cpp" PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release>:-O1>)
target_link_libraries(weft_engines PUBLIC weft_own)
