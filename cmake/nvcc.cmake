# nvcc as a plain command: CMake's own language would have to be switched on for every configuration, working or not.
include_guard(GLOBAL)
find_program(WEFT_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(WEFT_NVCC)
set(WEFT_CUDA_TARGETS "-gencode=arch=compute_90a,code=sm_90a" CACHE STRING "Options of nvcc that name the GPUs to compile for")
set(WEFT_CUDA_FOUND FALSE)
if(NOT WEFT_NVCC)
  message(STATUS "weft: no nvcc: what is for a GPU is not compiled")
else()
  get_filename_component(WEFT_CUDA_ROOT "${WEFT_NVCC}" REALPATH)
  get_filename_component(WEFT_CUDA_ROOT "${WEFT_CUDA_ROOT}/../.." ABSOLUTE)
  find_library(WEFT_CUDART cudart_static HINTS "${WEFT_CUDA_ROOT}/lib64" "${WEFT_CUDA_ROOT}/lib" PATH_SUFFIXES x86_64-linux-gnu)
  mark_as_advanced(WEFT_CUDART)
  if(WEFT_CUDART)
    set(WEFT_CUDA_FOUND TRUE)
  else()
    message(STATUS "weft: no static CUDA runtime: programs for a GPU are left out")
  endif()
endif()

option(WEFT_CUDA "Programs and benches run on a GPU too, where nvcc is found; tests compile their kernels without" ON)
set(WEFT_CUDA_PROGRAMS FALSE)
if(WEFT_CUDA AND WEFT_CUDA_FOUND)
  set(WEFT_CUDA_PROGRAMS TRUE)
endif()

# Compiles .cu files; the list `objects` has what to link.
function(weft_nvcc objects)
  separate_arguments(targets UNIX_COMMAND "${WEFT_CUDA_TARGETS}")
  set(launcher)
  if(WEFT_CCACHE)
    set(launcher "${WEFT_CCACHE}")
  endif()
  set(made)
  foreach(source IN LISTS ARGN)
    get_filename_component(name "${source}" NAME_WE)
    set(object "${CMAKE_CURRENT_BINARY_DIR}/${name}.cu.o")
    add_custom_command(OUTPUT "${object}" DEPENDS "${source}" DEPFILE "${object}.d" VERBATIM
      COMMAND ${launcher} "${WEFT_NVCC}" -std=c++20 -O2 --expt-relaxed-constexpr -Werror all-warnings ${targets}
              "-I${PROJECT_SOURCE_DIR}/include" -MD -MF "${object}.d" -c "${source}" -o "${object}"
      COMMENT "nvcc ${name}.cu")
    list(APPEND made "${object}")
  endforeach()
  set(${objects} "${made}" PARENT_SCOPE)
endfunction()

# What a program with such objects links.
set(WEFT_CUDA_LIBRARIES "${WEFT_CUDART}" ${CMAKE_DL_LIBS} rt)
