# How tern's C is compiled.

option(TERN_AVX "build the AVX2 and AVX-512 kernels (x86-64 only)" ON)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(TERN_AVX OFF)
endif()
option(TERN_NEON "build the NEON kernels (AArch64 only)" ON)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(TERN_NEON OFF)
endif()

# CMake's own Release flags are replaced: kernels alone ask for -O3, below.
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "" FORCE)
set(CMAKE_C_FLAGS_DEBUG "-O1 -g" CACHE STRING "" FORCE)

set(TERN_SANITIZE_FLAGS "")
if(TERN_SANITIZE)
    set(TERN_SANITIZE_FLAGS -fsanitize=${TERN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()
if(TERN_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "TERN_FUZZ needs clang (libFuzzer), the compiler is ${CMAKE_C_COMPILER_ID}")
    endif()
    set(TERN_SANITIZE_FLAGS -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()
add_compile_options(${TERN_SANITIZE_FLAGS})
add_link_options(${TERN_SANITIZE_FLAGS})

function(tern_compile_options target)
    set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
                          C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -ffp-contract=off -fno-math-errno
                           $<$<BOOL:${TERN_WERROR}>:-Werror>)
endfunction()

# tern_objects(base src/base ...): the object library tern_base of all C files in those folders; nothing if there are none.
function(tern_objects area)
    set(globs "")
    foreach(folder IN LISTS ARGN)
        list(APPEND globs "${PROJECT_SOURCE_DIR}/${folder}/*.c")
    endforeach()
    file(GLOB sources CONFIGURE_DEPENDS ${globs})
    if(area STREQUAL "base" AND NOT TERN_COMPONENTS STREQUAL "all")
        list(FILTER sources EXCLUDE REGEX "/json\\.c$")
    endif()
    if(area STREQUAL "ops" AND NOT TERN_COMPONENTS STREQUAL "all")
        list(FILTER sources EXCLUDE REGEX "/config_json\\.c$") # it reads what json.c parses
    endif()
    if(NOT TERN_AVX)
        list(FILTER sources EXCLUDE REGEX "/isa_avx[0-9a-z]*\\.c$")
    endif()
    if(NOT TERN_NEON)
        list(FILTER sources EXCLUDE REGEX "/isa_neon[0-9a-z]*\\.c$")
    endif()
    list(FILTER sources EXCLUDE REGEX "\\.tmpl\\.c$")
    if(NOT sources)
        return()
    endif()
    add_library(tern_${area} OBJECT ${sources})
    target_include_directories(tern_${area} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    tern_compile_options(tern_${area})
    target_compile_definitions(tern_${area} PRIVATE $<$<BOOL:${TERN_AVX}>:TERN_HAVE_AVX=1>
                               $<$<BOOL:${TERN_NEON}>:TERN_HAVE_NEON=1>)
    if(TERN_COMPONENTS STREQUAL "all")
        foreach(lib JANSSON UTF8PROC PCRE2)
            target_include_directories(tern_${area} SYSTEM PRIVATE ${${lib}_INCLUDE_DIRS})
        endforeach()
    endif()
endfunction()

# Raised instruction sets belong to the isa_*.c files that instantiate the shared kernel text, and to no other: a function
# compiled with them must never be reached before the machine was asked.
function(tern_kernel_flags)
    if(NOT TARGET tern_kernels)
        return()
    endif()
    # Sanitizer builds take -O2: they instrument each access, and -O1 would leave the vector helpers as calls.
    target_compile_options(tern_kernels PRIVATE $<IF:$<CONFIG:Release>,-O3,-O2>)
    set(avx2 -mavx2 -mfma -mf16c)
    set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
    # gcc's partial redundancy elimination keeps second copies of the integer sums, which 16 registers do not hold.
    set(no_copies "$<$<C_COMPILER_ID:GNU>:-fno-tree-pre>")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_avx2.c PROPERTIES COMPILE_OPTIONS "${avx2};${no_copies}")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_avxvnni.c PROPERTIES COMPILE_OPTIONS
                                "${avx2};-mavxvnni;${no_copies}")
    # The same there, and constants of widening are not worth a register for the whole loop.
    set(no_constants "$<$<C_COMPILER_ID:GNU>:-fno-move-loop-invariants>")
    # A loop split in two has the numbers of both alive around each; strides of rows then go through vector registers at each step.
    set(no_split "$<$<C_COMPILER_ID:GNU>:-fno-split-loops>")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_avx512.c PROPERTIES COMPILE_OPTIONS
                                "${avx2};${avx512};${no_copies};${no_constants};${no_split}")
    # Else the sums of eleven rows go through memory at each step (tools/check_spills.py).
    set(no_jumps "$<$<C_COMPILER_ID:GNU>:-fno-thread-jumps>")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_avx512vnni.c PROPERTIES COMPILE_OPTIONS
                                "${avx2};${avx512};-mavx512vnni;${no_jumps}")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_avx512bf16.c PROPERTIES COMPILE_OPTIONS
                                "${avx2};${avx512};-mavx512bf16;${no_copies};${no_constants};${no_split}")
    # Scheduling before registers are given out moves loads so far ahead that gcc spills accumulators for them.
    set(neon "$<$<C_COMPILER_ID:GNU>:-fno-schedule-insns>")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_neon.c PROPERTIES COMPILE_OPTIONS "${neon}")
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_neondot.c PROPERTIES COMPILE_OPTIONS
                                "${neon};-march=armv8.2-a+dotprod")
    # The portable level is loops over arrays of 16, and gcc takes minutes for these checks there (5 s without).  They are
    # made at the other levels, from the same text; AddressSanitizer looks at all three.
    if(TERN_FUZZ OR TERN_SANITIZE MATCHES "undefined")
        set_source_files_properties(${PROJECT_SOURCE_DIR}/src/kernels/isa_portable.c PROPERTIES COMPILE_OPTIONS
                                    "-fno-sanitize=object-size,null,bounds,pointer-overflow,alignment")
    endif()
endfunction()
