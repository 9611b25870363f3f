# make demo    a whole agency under attack, on this machine (ARGS=--once ends after the story)
# make test    everything that continuous integration runs
# make storage the ledger on a real S3 server (not part of make test: building the server takes minutes)
# make bench   the comparisons behind docs/benchmarks.md (ARGS='-only firewalls' for those alone)
# make lint    format, vet, staticcheck
# make build   bin/pasban and bin/pasban-verify
# make web     rebuild the committed styles and scripts (needs Node)

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: build demo test lint unit clients storage web web-check browser story bench

export PASBAN_TESTDATA ?= $(abspath ../shared/data)

GO_FILES = $(shell git ls-files '*.go')

# Everything is compiled in two ways and no third, which would take minutes: as it
# is shipped, and with the race detector. That watches Pasban's own code. The two
# libraries that it does not watch only compute, and share nothing but by sync.Pool: a
# rule set is compiled in half the time without it. With a library that locks it
# would see races that are none.
UNWATCHED = $(patsubst %,-gcflags=%/...=-race=false,regexp github.com/petar-dambovaliev/aho-corasick)
RACE      = -race $(UNWATCHED)
GIVEN     = $(shell go env GOFLAGS)
SHIPPED   = CGO_ENABLED=0 GOFLAGS="$(GIVEN) -trimpath"

build:
	$(SHIPPED) go build -o bin/ ./cmd/...

demo: build
	bin/pasban demo $(ARGS)

test: tools build lint web-check unit clients browser story
	@echo "all of make test passed"

.PHONY: tools
tools:
	test/install

lint:
	@bad=$$(gofmt -l $(GO_FILES)); if [ -n "$$bad" ]; then echo "not gofmt-ed:"; echo "$$bad"; exit 1; fi
	go vet $(RACE) ./...
	@fix=$$(go fix $(RACE) -diff ./... 2>&1 || true); if [ -n "$$fix" ]; then echo "go fix would change:"; echo "$$fix"; exit 1; fi
	check=$$($(SHIPPED) go tool -n staticcheck); GOFLAGS="$(GIVEN) $(RACE)" $$check ./...; cd test/clients; $(SHIPPED) go vet ./...; $(SHIPPED) $$check ./...

unit: build
	go test $(RACE) -vet=off -timeout 20m ./...   # lint has vetted
	$(SHIPPED) go test ./internal/gateway -run TestCoreRuleSet   # the whole suite: the race detector gets every fiftieth case

clients: build
	cd test/clients && PASBAN_BIN=$(CURDIR)/bin/pasban $(SHIPPED) go test -count=1 ./...
	PASBAN_TEST_CLUSTER=1 $(SHIPPED) go test -count=1 -run TestCluster ./internal/eventstore

storage: tools
	cd test/storage && go test -mod=mod -count=1 ./...   # its go.mod follows Pasban's

web:
	cd web && npm ci --no-audit --no-fund && npm run build

web-check:
	$(MAKE) -C web check

browser: build
	cd test/browser && npm ci --no-audit --no-fund && node --test --test-concurrency=1

story: build
	bin/pasban demo --once

bench:
	test/install
	test/install bench
	npm ci --prefix test/browser --no-audit --no-fund
	go run ./test/bench $(ARGS)
