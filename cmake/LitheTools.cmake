# Compiler flags, optional build helpers (ccache, mold), and how a folder of the house becomes a target.

add_compile_options(-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)

find_program(LITHE_CCACHE ccache)
if(LITHE_CCACHE)
  # A precompiled header is cached too, which needs these two relaxations.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
                                  CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${LITHE_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()
find_program(LITHE_MOLD mold)
if(LITHE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(LITHE_SANITIZE)
  add_compile_options(-fsanitize=${LITHE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${LITHE_SANITIZE})
endif()

# lithe_folder(<folder> [TORCH] [LINK <targets of floors below, libraries>...])
# Makes lithe_<folder> of lithe/<folder>/**/*.cpp. A folder can only use the floors that it links.
function(lithe_folder folder)
  cmake_parse_arguments(ARG "TORCH" "" "LINK;PRIVATE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp)
  if(NOT sources)
    return()
  endif()
  set(target lithe_${folder})
  add_library(${target} STATIC ${sources})
  add_library(lithe::${folder} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${folder})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
  if(ARG_TORCH)
    target_link_libraries(${target} PUBLIC ${TORCH_LIBRARIES})
    lithe_use_torch_header(${target})
  endif()
  set_property(GLOBAL APPEND PROPERTY LITHE_FOLDERS ${target})
endfunction()

# GCC never writes the same precompiled header twice. With CCACHE_PCH_EXTSUM set, ccache tells them apart by this file
# instead, so that another checkout of the project finds what the first one compiled.
function(lithe_describe_torch_header file)
  find_file(LITHE_ATEN_HEADER ATen/ATen.h HINTS ${TORCH_INCLUDE_DIRS} NO_CACHE)
  file(TIMESTAMP "${LITHE_ATEN_HEADER}" installed UTC)
  file(SHA256 ${PROJECT_SOURCE_DIR}/cmake/torch_header.h header)
  file(CONFIGURE OUTPUT ${file} CONTENT
       "${header} ${LITHE_ATEN_HEADER} ${installed} fmt ${fmt_VERSION} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_BUILD_TYPE} ${CMAKE_CXX_FLAGS} ${LITHE_SANITIZE}\n")
endfunction()

# ATen's headers take most of a file's compile time: they are compiled once and shared.
function(lithe_use_torch_header target)
  if(NOT TARGET lithe_torch_header)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/torch_header.cpp CONTENT "")
    add_library(lithe_torch_header STATIC ${PROJECT_BINARY_DIR}/torch_header.cpp)
    target_link_libraries(lithe_torch_header PUBLIC ${TORCH_LIBRARIES} fmt::fmt Threads::Threads)
    target_compile_features(lithe_torch_header PUBLIC cxx_std_20)
    target_precompile_headers(lithe_torch_header PRIVATE ${PROJECT_SOURCE_DIR}/cmake/torch_header.h)
    lithe_describe_torch_header(${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/lithe_torch_header.dir/cmake_pch.hxx.gch.sum)
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")
    # The header was compiled with -fPIC; executables get -fPIE by default, and the compiler would refuse it.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  target_precompile_headers(${target} REUSE_FROM lithe_torch_header)
endfunction()

# lithe_test(<folder> [TORCH] LINK <targets>...): one test binary of tests/<folder>/**/*.cpp.
function(lithe_test folder)
  cmake_parse_arguments(ARG "TORCH" "" "LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp)
  if(NOT sources)
    return()
  endif()
  set(target test_${folder})
  add_executable(${target} ${sources})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${target} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  if(ARG_TORCH)
    target_link_libraries(${target} PRIVATE ${TORCH_LIBRARIES})
    lithe_use_torch_header(${target})
  endif()
  add_test(NAME ${folder} COMMAND ${target})
  set_tests_properties(${folder} PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=PASSIVE)
endfunction()

# lithe_embed(<target> <text file> <header as included> <constant>): compiles a text file in.
function(lithe_embed target input header name)
  set(output ${PROJECT_BINARY_DIR}/generated/${header})
  set(script ${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake)
  add_custom_command(OUTPUT ${output} DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${input} ${script}
    COMMAND ${CMAKE_COMMAND} -DINPUT=${CMAKE_CURRENT_SOURCE_DIR}/${input} -DOUTPUT=${output} -DNAME=${name} -P ${script})
  add_custom_target(${target}_generated DEPENDS ${output})
  target_sources(${target} PRIVATE ${output})
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()

# lithe_embed_files(<target> <file>...): files whose bytes the program carries, between the symbols
# lithe_file_<name> and lithe_file_<name>_end.
function(lithe_embed_files target)
  set(text "")
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME_WE)
    string(APPEND text ".global lithe_file_${name}\n.hidden lithe_file_${name}\n.balign 16\nlithe_file_${name}:\n"
                       ".incbin \"${file}\"\n.global lithe_file_${name}_end\n.hidden lithe_file_${name}_end\n"
                       "lithe_file_${name}_end:\n.byte 0\n")
  endforeach()
  set(source ${PROJECT_BINARY_DIR}/generated/${target}_files.s)
  file(CONFIGURE OUTPUT ${source} CONTENT ".section .rodata\n${text}.section .note.GNU-stack,\"\",%progbits\n" @ONLY)
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS "${ARGN}")
  target_sources(${target} PRIVATE ${source})
endfunction()
