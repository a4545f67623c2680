# Headers, the package that find_package(weft) reads, and weft.pc. Headers fit every architecture.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(WEFT_PACKAGE_DIR "${CMAKE_INSTALL_DATADIR}/cmake/weft")

install(DIRECTORY include/weft DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(TARGETS weft EXPORT weft-targets)
install(EXPORT weft-targets NAMESPACE weft:: DESTINATION "${WEFT_PACKAGE_DIR}")

configure_package_config_file(cmake/weft-config.cmake.in weft-config.cmake INSTALL_DESTINATION "${WEFT_PACKAGE_DIR}"
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(weft-config-version.cmake COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/weft-config.cmake" "${CMAKE_CURRENT_BINARY_DIR}/weft-config-version.cmake"
              cmake/weft-xsimd.cmake
        DESTINATION "${WEFT_PACKAGE_DIR}")

configure_file(cmake/weft.pc.in weft.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/weft.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
