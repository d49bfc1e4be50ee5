# The README's commands. Each installs what it needs first; what is there already is not done again.
#
#   make          the program, at build/cresco
#   make demo     text to demo/report.html, in some minutes
#   make recipe-control-small  five arms of one recipe at small size, beside each other on recipe-control-small/report.html
#   make test     everything that can be checked; ends with CTest's summary
#   make test-peers  models as transformers writes them, dictionaries as their libraries do, against what these
#                    compute; pretraining against PyTorch's steps (fetches PyTorch and the libraries)
#   make bench    the benchmarks
#   make asan     the folders without LibTorch under AddressSanitizer and UBSan
#   make fuzz     the fuzz targets, FUZZ_SECONDS each
#   make format   clang-format over all sources
#   make setup    only installs
#   make clean    removes what was built, not what was downloaded

JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
# Small tensors on a busy machine: threads that wait should sleep, not spin.
export OMP_WAIT_POLICY ?= passive

.PHONY: all setup demo recipe-control-small test test-peers bench asan fuzz format clean
all:
	@tools/setup build
	@cmake --preset cpu -DCRESCO_TESTS=OFF >/dev/null
	cmake --build build --target cresco -j $(JOBS)

setup:
	tools/setup test

demo:
	@tools/setup demo
	@cmake --preset cpu -DCRESCO_TESTS=OFF >/dev/null
	cmake --build build --target cresco -j $(JOBS)
	build/cresco demo --out demo --overwrite

recipe-control-small:
	@tools/setup demo
	@cmake --preset cpu -DCRESCO_TESTS=OFF >/dev/null
	cmake --build build --target cresco -j $(JOBS)
	tools/recipe_control_small recipe-control-small

test:
	@tools/setup test
	@cmake --preset cpu -DCRESCO_TESTS=ON >/dev/null
	tools/timed_build build $(JOBS)
	ctest --test-dir build --output-on-failure --parallel $(JOBS) --no-tests=error
	@tools/show_skipped build

# Not part of `make test`, which needs no PyTorch for Python.
test-peers: all
	@tools/setup_peers dictionaries
	rm -rf build/peer_models
	.deps/peers/bin/python tools/make_goldens.py --folders build/peer_models
	cd tests && CRESCO=../build/cresco CRESCO_PEER_MODELS=../build/peer_models \
	  ../.deps/peers/bin/python -m unittest -v peer_models_test
	cd tests && CRESCO=../build/cresco ../.deps/peers/bin/python -W ignore -m unittest -v peer_pretrain_test
	cd tests && CRESCO=../build/cresco ../.deps/peers_dictionaries/bin/python -W ignore -m unittest -v peer_dictionaries_test

bench:
	@tools/setup test
	@cmake --preset cpu -DCRESCO_TESTS=ON -DCRESCO_BENCH=ON >/dev/null
	cmake --build build -j $(JOBS)
	tools/run_benchmarks build

asan:
	@tools/setup test
	tests/sanitized

fuzz:
	@tools/setup test
	tests/fuzz/run $(FUZZ_SECONDS)

format:
	find cresco cli tests bench \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' \) -print0 | xargs -0 clang-format -i

clean:
	rm -rf build build-* demo recipe-control-small
