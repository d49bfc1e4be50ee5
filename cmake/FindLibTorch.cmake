# The C++ library inside PyTorch's wheel, as imported targets:
#   libtorch::cpu    torch_cpu and c10: tensors, autograd, MKL
#   libtorch::cuda   adds torch_cuda, c10_cuda and the CUDA runtime
#
# CRESCO_LIBTORCH (environment or cache) names a `torch` folder; otherwise the one that tools/setup
# left under .deps/ is taken. The wheel's own find_package(Torch) is not used: it asks CMake 3.25 for a
# CUDA dialect that this CMake does not know.
set(CRESCO_LIBTORCH "$ENV{CRESCO_LIBTORCH}" CACHE PATH "a torch folder with include/ and lib/")
set(libtorch_root "${CRESCO_LIBTORCH}")
if(NOT libtorch_root)
  set(libtorch_root "${PROJECT_SOURCE_DIR}/.deps/libtorch-2.11.0/torch")
endif()

find_library(libtorch_cpu_library torch_cpu PATHS "${libtorch_root}/lib" NO_DEFAULT_PATH)
find_library(libtorch_c10_library c10 PATHS "${libtorch_root}/lib" NO_DEFAULT_PATH)
find_path(libtorch_include ATen/ATen.h PATHS "${libtorch_root}/include" NO_DEFAULT_PATH)
# CUPTI and the CUDA runtime: from the wheels that tools/setup fetched, else from a CUDA toolkit.
set(libtorch_cuda_paths "${PROJECT_SOURCE_DIR}/.deps/cuda-13.0/nvidia/cu13/lib"
  /usr/local/cuda/lib64 /usr/local/cuda/extras/CUPTI/lib64)
find_library(libtorch_cupti_library NAMES libcupti.so.13 PATHS ${libtorch_cuda_paths} NO_DEFAULT_PATH)
find_library(libtorch_cudart_library NAMES libcudart.so.13 PATHS ${libtorch_cuda_paths} NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS libtorch_cpu_library libtorch_c10_library libtorch_include libtorch_cupti_library
                libtorch_cudart_library
  REASON_FAILURE_MESSAGE "run tools/setup, or set CRESCO_LIBTORCH to a torch 2.11 folder")
mark_as_advanced(libtorch_cpu_library libtorch_c10_library libtorch_include libtorch_cupti_library
  libtorch_cudart_library)

if(LibTorch_FOUND AND NOT TARGET libtorch::cpu)
  get_filename_component(libtorch_cupti_folder "${libtorch_cupti_library}" DIRECTORY)
  get_filename_component(libtorch_cudart_folder "${libtorch_cudart_library}" DIRECTORY)

  # The wheel bundles headers of other libraries, among them another fmt than the one we link: only
  # LibTorch's own are put on the include path.
  set(libtorch_own_include "${CMAKE_BINARY_DIR}/libtorch-include")
  file(MAKE_DIRECTORY "${libtorch_own_include}")
  foreach(part ATen c10 caffe2 torch)
    file(CREATE_LINK "${libtorch_include}/${part}" "${libtorch_own_include}/${part}" SYMBOLIC)
  endforeach()

  add_library(libtorch::cpu INTERFACE IMPORTED)
  target_include_directories(libtorch::cpu SYSTEM INTERFACE "${libtorch_own_include}"
    "${libtorch_own_include}/torch/csrc/api/include")
  target_compile_definitions(libtorch::cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
  # at::parallel_for is a plain loop in code that is compiled without OpenMP. The runtime is the wheel's.
  target_compile_options(libtorch::cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  # A program's library path is not that of the libraries it loads: what libtorch_cpu.so needs has to be
  # loaded by the program itself, or it is found only where a CUDA toolkit is installed.
  target_link_libraries(libtorch::cpu INTERFACE "${libtorch_cpu_library}" "${libtorch_c10_library}"
    "${libtorch_root}/lib/libgomp.so.1"
    "-Wl,--no-as-needed" "${libtorch_cupti_library}" "${libtorch_cudart_library}" "-Wl,--as-needed")
  target_link_options(libtorch::cpu INTERFACE
    "LINKER:-rpath,${libtorch_root}/lib:${libtorch_cupti_folder}:${libtorch_cudart_folder}"
    "LINKER:-rpath-link,${libtorch_cupti_folder}:${libtorch_cudart_folder}"
    "LINKER:--allow-shlib-undefined" "LINKER:--as-needed")

  find_library(libtorch_cuda_library torch_cuda PATHS "${libtorch_root}/lib" NO_DEFAULT_PATH)
  find_library(libtorch_c10_cuda_library c10_cuda PATHS "${libtorch_root}/lib" NO_DEFAULT_PATH)
  mark_as_advanced(libtorch_cuda_library libtorch_c10_cuda_library)
  if(libtorch_cuda_library AND libtorch_c10_cuda_library)
    # torch_cuda registers its kernels when it is loaded: it has to stay although nothing refers to it.
    add_library(libtorch::cuda INTERFACE IMPORTED)
    target_link_libraries(libtorch::cuda INTERFACE libtorch::cpu "-Wl,--no-as-needed"
      "${libtorch_cuda_library}" "${libtorch_c10_cuda_library}" "-Wl,--as-needed"
      "${libtorch_cudart_library}")
  endif()
endif()
