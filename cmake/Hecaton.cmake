# One static library per folder of src/. A folder names the folders it may use; an include of any other has no
# declaration path to link against, so a wrong dependency fails at link time.

add_library(hecaton_flags INTERFACE)
target_include_directories(hecaton_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include
                           ${PROJECT_BINARY_DIR}/generated)
target_compile_options(hecaton_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
                       -fvisibility=hidden -fno-omit-frame-pointer)
target_compile_definitions(hecaton_flags INTERFACE _FILE_OFFSET_BITS=64 SPDLOG_FMT_EXTERNAL)
if(HECATON_SANITIZE)
  target_compile_options(hecaton_flags INTERFACE -fsanitize=${HECATON_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(hecaton_flags INTERFACE -fsanitize=${HECATON_SANITIZE})
endif()

# All that unit and integration tests run, and nothing else: what a sanitizer's build needs (scripts/test --quick).
add_custom_target(quick_tests)

# hecaton_layer(NAME SOURCES a.cc ... TESTS a_test.cc ... USES other layers and libraries)
function(hecaton_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;TESTS;USES" ${ARGN})
  add_library(hecaton_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(hecaton_${name} PUBLIC hecaton_flags ${ARG_USES})
  if(HECATON_TESTS AND ARG_TESTS)
    hecaton_test(${name}_test SOURCES ${ARG_TESTS} USES hecaton_${name})
  endif()
endfunction()

# hecaton_test(NAME SOURCES ... USES ... [LABEL unit|integration] [TIMEOUT seconds])
function(hecaton_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;USES" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE hecaton_flags ${ARG_USES} GTest::gtest GTest::gmock GTest::gtest_main)
  add_dependencies(quick_tests ${name})
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
