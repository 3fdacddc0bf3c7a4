# cmake --install: headers, the libraries of all folders, and a package that find_package(lithe) finds.
include(CMakePackageConfigHelpers)

get_property(folders GLOBAL PROPERTY LITHE_FOLDERS)
add_library(lithe_all INTERFACE)
add_library(lithe::lithe ALIAS lithe_all)
set_target_properties(lithe_all PROPERTIES EXPORT_NAME lithe)
target_link_libraries(lithe_all INTERFACE ${folders})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lithe)
install(TARGETS lithe_all ${folders} EXPORT lithe-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT lithe-targets NAMESPACE lithe:: DESTINATION ${package_folder})
install(DIRECTORY lithe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h"
        PATTERN "onnx_proto.h" EXCLUDE)
configure_package_config_file(cmake/lithe-config.cmake.in ${PROJECT_BINARY_DIR}/lithe-config.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lithe-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lithe-config.cmake ${PROJECT_BINARY_DIR}/lithe-config-version.cmake
        DESTINATION ${package_folder})
