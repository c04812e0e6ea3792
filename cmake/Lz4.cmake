# liblz4, as Lz4::lz4.
find_path(LZ4_INCLUDE lz4.h)
find_library(LZ4_LIBRARY lz4)
if(NOT LZ4_INCLUDE OR NOT LZ4_LIBRARY)
  message(FATAL_ERROR "liblz4 is not installed: run scripts/setup, or apt install liblz4-dev")
endif()
add_library(Lz4::lz4 UNKNOWN IMPORTED)
set_target_properties(Lz4::lz4 PROPERTIES IMPORTED_LOCATION ${LZ4_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${LZ4_INCLUDE})
mark_as_advanced(LZ4_INCLUDE LZ4_LIBRARY)
