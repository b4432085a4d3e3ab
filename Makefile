# make run     build, start a cluster for a look, stop it with Ctrl-C
# make test    everything that must pass, on a fresh machine too (.ci/run calls it)

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

GO       ?= go
BIN      := bin/srs-proxy
FUZZTIME ?= 3s

# A version of the linter is part of the rules: it is built from source by its
# pinned version, in its own module, so that it brings nothing into go.mod. The
# first build takes about two minutes on two cores, later ones are cached.
LINTER := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.0

# What the end-to-end tests run besides us: Debian's package of each command.
TOOLS := ffmpeg:ffmpeg curl:curl redis-server:redis-server strace:strace ip:iproute2 chromium:chromium

# What make bench measures, how often and how long; empty CASES are all (docs/BENCH.md).
CASES   ?=
ROUNDS  ?= 3
SECONDS ?= 10
OUT     ?= bin/bench/$(if $(SRS_BINARY),srs,builtin)

.PHONY: all build run test deps vet lint unit race fuzz e2e bench bench-docs profile microbench clean

all: build

build:
	$(GO) build -o $(BIN) .

# Eight origins on any machine, so that there is something to look at.
run: build
	@exec ./$(BIN) up --origins $${SRS_PROXY_ORIGINS:-8}

test: deps build vet lint race fuzz e2e
	@echo "all tests passed"

# deps installs the tools that are missing where it may (root on Debian or
# Ubuntu) and says what to install where it may not.
deps:
	@missing=(); packages=(); \
	for tool in $(TOOLS); do \
		command -v "$${tool%%:*}" >/dev/null || { missing+=("$${tool%%:*}"); packages+=("$${tool##*:}"); }; \
	done; \
	if (( $${#missing[@]} == 0 )); then exit 0; fi; \
	if [[ $$(id -u) == 0 ]] && command -v apt-get >/dev/null; then \
		echo "installing $${packages[*]}"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends "$${packages[@]}" >/dev/null; \
	else \
		echo "the tests need $${missing[*]}; install them: sudo apt-get install $${packages[*]}" >&2; exit 1; \
	fi

vet:
	$(GO) vet ./...

# Its cache keeps the paths of the checkout that filled it, on which the exclusions
# of .golangci.yml depend: each checkout has its own.
lint:
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/lint-cache $(GO) run $(LINTER) run ./...

unit:
	$(GO) test $$($(GO) list ./... | grep -v '/test\b')

race:
	$(GO) test -race -timeout 5m $$($(GO) list ./... | grep -v '/test\b')

# Every fuzz target of every package, a few seconds each: Go runs one at a time.
# When the time is up, a busy machine makes Go report its own deadline as a
# failure now and then; a finding always comes with the input that it wrote.
fuzz:
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -d' ' -f2 | sort); do \
			echo "fuzz $$dir $$target"; \
			out=$$($(GO) test "$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) 2>&1) && continue; \
			if [[ $$out == *"context deadline exceeded"* && $$out != *"Failing input"* ]]; then continue; fi; \
			echo "$$out"; exit 1; \
		done; \
	done

# With SRS_BINARY=/path/to/srs the same tests run against real SRS as well.
e2e: build
	$(GO) test -count=1 -timeout 8m ./test/...

# Our proxy beside HAProxy, nginx and, with EXISTING_PROXY=/path/to/it, the existing Go
# proxy, in front of the origin of SRS_BINARY or the built-in one. The results are in OUT.
bench: build
	$(GO) build -o bin/compare ./bench/compare
	@exec bin/compare -binary $(BIN) -cases "$(CASES)" -rounds $(ROUNDS) -seconds $(SECONDS)s -srs "$${SRS_BINARY:-}" -existing "$${EXISTING_PROXY:-}" -out "$(OUT)"

# The tables and plots of README.md and docs/BENCH.md, from all results in bin/bench.
bench-docs:
	$(GO) build -o bin/compare ./bench/compare
	@bin/compare -docs . $(wildcard bin/bench/*/results.json)

# CPU profiles of our proxy under the load of each case of CASES, and of its heap in those that are idle,
# in bin/profile: go tool pprof FILE.
profile: build
	$(GO) build -o bin/compare ./bench/compare
	@exec bin/compare -binary $(BIN) -cases "$(CASES)" -rounds 1 -seconds $(SECONDS)s -srs "$${SRS_BINARY:-}" -profile bin/profile -out bin/profile

# The benchmarks of single functions.
microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf bin
