# make install: GNU layout, pkg-config and CMake package.
include(CMakePackageConfigHelpers)

install(TARGETS tern_shared EXPORT ternTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS tern_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET tern_mpi)
    install(TARGETS tern_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}) # where libtern and the command look for it
endif()
install(PROGRAMS ${PROJECT_SOURCE_DIR}/tools/make_golden.py DESTINATION ${CMAKE_INSTALL_DATADIR}/tern) # for tern verify
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/tern DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(TARGET tern_cli)
    install(TARGETS tern_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/models/tiny-shakespeare)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/tiny-shakespeare DESTINATION ${CMAKE_INSTALL_DATADIR}/tern/models)
endif()

set_target_properties(tern_shared PROPERTIES EXPORT_NAME tern)
install(EXPORT ternTargets NAMESPACE tern:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tern)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ternConfig.cmake.in ${PROJECT_BINARY_DIR}/ternConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tern)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ternConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ternConfig.cmake ${PROJECT_BINARY_DIR}/ternConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tern)

# Both files compute their prefix from where they lie, so a tree that is moved after `make install DESTDIR=` still works.
set(TERN_PC_REQUIRES "")
if(TERN_COMPONENTS STREQUAL "all")
    set(TERN_PC_REQUIRES "Requires.private: jansson libutf8proc libpcre2-8\n")
endif()
file(RELATIVE_PATH TERN_PC_PREFIX "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/p")
configure_file(${PROJECT_SOURCE_DIR}/cmake/tern.pc.in ${PROJECT_BINARY_DIR}/tern.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tern.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
