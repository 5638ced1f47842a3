# rosidl_generator_py writes the Python and NumPy include folders of the machine that built a message
# package into that package's exported CMake target. Nothing that links the target needs them, and
# they stop the build in two places:
#   - ROS wheels from PyPI were built elsewhere: CMake refuses a target whose folders do not exist;
#   - with a virtual environment in the source tree, CMake refuses to export our own target.
# With ROS from apt neither applies, and nothing is dropped.
get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
foreach(target IN LISTS imported own)
  if(NOT target MATCHES "__rosidl_generator_py$")
    continue()
  endif()
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(kept "")
  foreach(folder IN LISTS folders)
    if(folder MATCHES "^/" AND NOT EXISTS "${folder}")
      continue()
    endif()
    if(folder MATCHES "^${CMAKE_CURRENT_SOURCE_DIR}/.*/site-packages/")
      continue()
    endif()
    list(APPEND kept "${folder}")
  endforeach()
  if(folders)
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endif()
endforeach()
