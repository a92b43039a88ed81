# xlstm_layer(NAME USES other layers... LINKS libraries...): the static library of src/NAME.
function(xlstm_layer name)
  cmake_parse_arguments(ARG "" "" "USES;LINKS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  if(sources)
    add_library(xlstm_${name} STATIC ${sources})
    set(kind PUBLIC)
  else()
    add_library(xlstm_${name} INTERFACE)
    set(kind INTERFACE)
  endif()
  target_include_directories(xlstm_${name} ${kind} ${CMAKE_SOURCE_DIR}/src)
  foreach(other ${ARG_USES})
    target_link_libraries(xlstm_${name} ${kind} xlstm_${other})
  endforeach()
  target_link_libraries(xlstm_${name} ${kind} ${ARG_LINKS})
endfunction()

function(xlstm_cuda_objects name architectures)
  add_library(${name} OBJECT ${ARGN})
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}"
                        CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/scripts/nvcc_with_report.sh)
  # nvcc cannot evaluate fmt's format strings at compile time, and takes fmt for constexpr only if told so.
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-DFMT_CONSTEVAL=;-DFMT_USE_CONSTEXPR=1>")
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE xlstm_core CUDA::cudart_static CUDA::cublasLt)
endfunction()

# The messages of TensorBoard's event files, generated; without our warnings. Debian's libsentencepiece holds an older
# protobuf of its own and exports it, so ours is linked statically, as a whole, and shown to nobody.
function(xlstm_events)
  protobuf_generate_cpp(sources headers ${CMAKE_SOURCE_DIR}/src/train/events.proto)
  add_library(xlstm_events STATIC ${sources} ${headers})
  target_compile_options(xlstm_events PRIVATE -w)
  target_include_directories(xlstm_events SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR} ${BOOST_CRC_INCLUDE})
  target_include_directories(xlstm_events SYSTEM PUBLIC ${Protobuf_INCLUDE_DIRS})
  target_link_libraries(xlstm_events PUBLIC
    "-Wl,--whole-archive,${PROTOBUF_LITE_ARCHIVE},--no-whole-archive,--exclude-libs,libprotobuf-lite.a")
endfunction()

# The GPU's operations, xlstm_gpu: what programs link to have them, nothing in a build without CUDA. Objects, not a
# library: nothing refers to them but weak symbols, which pull nothing out of an archive.
function(xlstm_cuda)
  add_library(xlstm_gpu INTERFACE)
  if(NOT XLSTM_CUDA)
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cu ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cpp)
  set(hopper ${sources})
  list(FILTER hopper INCLUDE REGEX "wgmma[a-z_]*\\.cu$")
  list(REMOVE_ITEM sources ${hopper})
  xlstm_cuda_objects(xlstm_gpu_ops "${XLSTM_CUDA_ARCH}" ${sources})
  xlstm_cuda_objects(xlstm_gpu_hopper 90a-real ${hopper})
  target_link_libraries(xlstm_gpu INTERFACE $<TARGET_OBJECTS:xlstm_gpu_ops> $<TARGET_OBJECTS:xlstm_gpu_hopper>
                        CUDA::cudart_static CUDA::cublasLt)
  # Libraries beside the program (CMAKE_BUILD_RPATH) serve those that they need in turn, too.
  target_link_options(xlstm_gpu INTERFACE LINKER:--disable-new-dtags)
endfunction()

# Kernels for the emulator.
function(xlstm_emulated_objects name)
  set(cuda ${ARGN})
  list(FILTER cuda INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${cuda} PROPERTIES LANGUAGE CXX)
  add_library(${name} OBJECT ${ARGN})
  target_compile_options(${name} PRIVATE -x c++ -O2)
  target_link_libraries(${name} PUBLIC xlstm_emulator)
endfunction()

# The CUDA kernels' emulator (src/kernels/cuda/emulator): for tests alone, never part of the program. xlstm_emulated_gpu
# is to a test what xlstm_gpu is to a program.
function(xlstm_emulator)
  set(cuda ${CMAKE_SOURCE_DIR}/src/kernels/cuda)
  file(GLOB sources CONFIGURE_DEPENDS ${cuda}/emulator/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/(gpu|matmul)\\.cpp$")
  add_library(xlstm_emulator STATIC ${sources})
  target_include_directories(xlstm_emulator PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_include_directories(xlstm_emulator SYSTEM PUBLIC ${BOOST_CONTEXT_INCLUDE})
  target_link_libraries(xlstm_emulator PUBLIC xlstm_core ${BOOST_CONTEXT_LIBRARY})
  # Millions of emulated instructions: optimised in every build.
  target_compile_options(xlstm_emulator PRIVATE -O2)
  file(GLOB ops CONFIGURE_DEPENDS ${cuda}/*.cu)
  xlstm_emulated_objects(xlstm_emulated_ops ${ops} ${cuda}/emulator/gpu.cpp ${cuda}/emulator/matmul.cpp)
  add_library(xlstm_emulated_gpu INTERFACE)
  target_link_libraries(xlstm_emulated_gpu INTERFACE $<TARGET_OBJECTS:xlstm_emulated_ops> xlstm_emulator)
endfunction()

# How src/kernels/cpu is compiled, whatever the build type: the fused multiply-adds that docs/numerics.md counts on come
# with -O2 and above only.
set(XLSTM_KERNEL_OPTIONS -O3 -ffp-contract=fast)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(XLSTM_BASELINE_OPTIONS ${XLSTM_KERNEL_OPTIONS} -march=x86-64-v3)
  set(XLSTM_AVX512_OPTIONS ${XLSTM_KERNEL_OPTIONS} -march=x86-64-v4 -mprefer-vector-width=512)
else()
  set(XLSTM_BASELINE_OPTIONS ${XLSTM_KERNEL_OPTIONS})
endif()

# src/kernels/cpu is compiled once per instruction set, each time into a namespace of its own (XL_CPU). The baseline
# comes first, so that the linker takes its copy of every inline function that both have; scripts/check_isa.sh proves
# that no such function exists only in a higher level's objects.
function(xlstm_kernels)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cpu/*.cpp)
  function(level isa)
    add_library(xlstm_kernels_${isa} OBJECT ${sources})
    target_compile_definitions(xlstm_kernels_${isa} PRIVATE XL_CPU=cpu_${isa})
    target_compile_options(xlstm_kernels_${isa} PRIVATE ${ARGN})
    target_include_directories(xlstm_kernels_${isa} PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(xlstm_kernels_${isa} PRIVATE xlstm_core dnnl OpenMP::OpenMP_CXX)
  endfunction()
  level(baseline ${XLSTM_BASELINE_OPTIONS})
  set(objects $<TARGET_OBJECTS:xlstm_kernels_baseline>)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    level(avx512 ${XLSTM_AVX512_OPTIONS})
    list(APPEND objects $<TARGET_OBJECTS:xlstm_kernels_avx512>)
  endif()
  file(GLOB shared CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/*.cpp)
  add_library(xlstm_kernels STATIC ${objects} ${shared})
  set_target_properties(xlstm_kernels PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(xlstm_kernels PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(xlstm_kernels PUBLIC xlstm_core dnnl OpenMP::OpenMP_CXX)
endfunction()
