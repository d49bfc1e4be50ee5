# cresco_library(NAME [TORCH] SOURCES ... [TESTS ...] [DEPENDS ...] [LINK ...])
#
# One static library per folder of cresco/, with its tests beside its sources (one ctest entry per
# folder: a process that links LibTorch starts in 0.3 s). TORCH says that the folder includes LibTorch;
# its files share one precompiled header. LINK names libraries that only this folder's sources include.
function(cresco_library name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;TESTS;DEPENDS;LINK" ${ARGN})

  add_library(cresco_${name} STATIC ${arg_SOURCES})
  list(TRANSFORM arg_DEPENDS PREPEND cresco_)
  target_link_libraries(cresco_${name} PUBLIC cresco_flags ${arg_DEPENDS} fmt::fmt PRIVATE ${arg_LINK})
  if(arg_TORCH)
    target_link_libraries(cresco_${name} PUBLIC cresco_torch)
    target_precompile_headers(cresco_${name} REUSE_FROM cresco_torch_pch)
  endif()

  if(CRESCO_TESTS AND arg_TESTS)
    add_executable(${name}_test ${arg_TESTS})
    target_link_libraries(${name}_test PRIVATE cresco_${name} cresco_testing ${arg_LINK} GTest::gtest_main)
    if(arg_TORCH)
      target_precompile_headers(${name}_test REUSE_FROM cresco_torch_pch)
    endif()
    if(CRESCO_SANITIZE)
      # The sources are what is looked at; most of the time goes into compiling their tests.
      target_compile_options(${name}_test PRIVATE -O0 -g0)
    endif()
    add_test(NAME ${name} COMMAND ${name}_test)
    if(arg_TORCH)
      # Tensors of a few hundred numbers gain nothing from threads, and lose much on a busy machine.
      set_tests_properties(${name} PROPERTIES ENVIRONMENT "OMP_NUM_THREADS=1")
    endif()
    set_property(GLOBAL APPEND PROPERTY CRESCO_TEST_PROGRAMS ${name}_test)
  endif()
endfunction()

# cresco_mpi_tests(NAME RANKS): the folder's tests called World.* once more, as RANKS processes of mpirun.
function(cresco_mpi_tests name ranks)
  if(CRESCO_TESTS)
    add_test(NAME ${name}_mpi_${ranks} COMMAND mpirun --oversubscribe -n ${ranks}
      $<TARGET_FILE:${name}_test> --gtest_filter=World.*)
    set_tests_properties(${name}_mpi_${ranks} PROPERTIES TIMEOUT 300 PROCESSORS 2 ENVIRONMENT
      "OMP_NUM_THREADS=1;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  endif()
endfunction()

# cresco_embed(OUTPUT NAMESPACE HEADER NAME FILE [NAME FILE]...)
#
# A source in the build folder whose functions NAME() return the texts of FILEs; HEADER declares them.
function(cresco_embed output namespace header)
  set(names "")
  set(files "")
  while(ARGN)
    list(POP_FRONT ARGN name file)
    list(APPEND names ${name})
    list(APPEND files "${file}")
  endwhile()
  set(script "${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake")
  add_custom_command(OUTPUT "${output}"
    COMMAND ${CMAKE_COMMAND} "-DFILES=${files}" "-DNAMES=${names}" "-DNAMESPACE=${namespace}" "-DHEADER=${header}"
            "-DOUTPUT=${output}" -P "${script}"
    DEPENDS ${files} "${script}" VERBATIM)
endfunction()
