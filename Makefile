# dyad: `make help` lists the targets.
SHELL        := /bin/bash
.SHELLFLAGS  := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
# Empty: FRR for root, the embedded router for anybody else.
ROUTER  ?=
ONLY    ?= .
ROUNDS  ?= 1000
# Of the simulation: TIME is simulated, 24 hours take some seconds.
FAILOVERS ?= 1000000
TIME    ?=
SEED    ?=
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X dyad/cmd/dyad/cli.Version=$(VERSION)

export CGO_ENABLED := 0
# Builds need no version control stamp: the version comes through LDFLAGS.
export GOFLAGS := -buildvcs=false

# Packages whose tests need no root, no network and no real time.
FAST := ./cluster/quorum ./cluster/steward ./eventlog ./eventlog/memlog ./projections/... ./failover/... ./speaker ./speaker/memspeaker \
	./cluster ./cluster/config ./chaos ./chaos/sim ./docs/house

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  Options: ROUTER=frr|bird|gobgp (demo, lab), ONLY=regexp (bench, torture), N=n (bench: repetitions), ROUNDS=n, FAILOVERS=n, TIME=d and SEED=n (torture, sim), PREFIX=DIR (install)."

.PHONY: build
build: ## build bin/dyad, static and stamped with the version
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/dyad ./cmd/dyad

.PHONY: demo
demo: build ## two nodes, a router, a client; a node dies under traffic (ROUTER=gobgp needs no apt)
	@bin/dyad lab deps $(if $(ROUTER),--router $(ROUTER))
	@bin/dyad lab demo $(if $(ROUTER),--router $(ROUTER)) --report build/demo/report.json

.PHONY: test
test: build ## everything: lint, unit, virtual time, real etcd, real routers
	@bin/dyad lab deps --router all
	@$(MAKE) --no-print-directory lint
	$(GO) test -count=1 -timeout 45m -p 1 ./...

.PHONY: test-fast
test-fast: ## pure and virtual-time tests: no root, no network, under a minute
	$(GO) test -short -timeout 60s $(FAST)

.PHONY: lab
lab: build ## bring a lab up and leave it running (bin/dyad lab down removes it)
	@bin/dyad lab deps $(if $(ROUTER),--router $(ROUTER))
	@bin/dyad lab up $(if $(ROUTER),--router $(ROUTER))

.PHONY: bench
bench: build ## measure, and compare with the targets; writes build/bench/results.json
	@bin/dyad lab deps --router frr
	@$(GO) run ./cmd/dyadbench -only '$(ONLY)' $(if $(N),-n $(N)) -dyad bin/dyad -out build/bench/results.json

.PHONY: cases
cases: build ## every case of the two-node log on real processes (minutes; as root)
	$(GO) test -count=1 -timeout 40m -run 'Cases$$' ./chaos/labtest

.PHONY: torture
torture: bin/dyadtorture ## kill pairs for hours, real ones under load and simulated ones (ONLY=log|sim)
	@bin/dyadtorture -only '$(ONLY)' -rounds $(ROUNDS) -failovers $(FAILOVERS) $(if $(TIME),-time $(TIME)) $(if $(SEED),-seed $(SEED))

.PHONY: sim
sim: bin/dyadtorture ## play a pair and a swarm of faults in virtual time (SEED=n TIME=24h)
	@bin/dyadtorture -only '^sim$$' -failovers 0 -time $(or $(TIME),24h) $(if $(SEED),-seed $(SEED))

.PHONY: bin/dyadtorture
bin/dyadtorture:
	@$(GO) build -ldflags '-X main.commit=$(VERSION)' -o bin/dyadtorture ./cmd/dyadtorture

.PHONY: lint
lint: ## gofumpt, vet, staticcheck, and the house rules
	@out=$$($(GO) tool gofumpt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofumpt -w these:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./docs/house

.PHONY: fuzz
fuzz: ## fuzz every decoder, FUZZTIME=30s each
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for n in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$f/*_test.go | sed 's/func //'); do \
	    echo "$$f $$n"; $(GO) test $$f -run '^$$' -fuzz "^$$n$$" -fuzztime $(or $(FUZZTIME),30s); done; done

.PHONY: install
install: build ## install the binary, the completion and the systemd units below PREFIX
	install -D -m 0755 bin/dyad $(DESTDIR)$(PREFIX)/bin/dyad
	install -D -m 0644 docs/systemd/dyad.service $(DESTDIR)/etc/systemd/system/dyad.service
	install -D -m 0644 docs/systemd/dyad-witness.service $(DESTDIR)/etc/systemd/system/dyad-witness.service
	mkdir -p $(DESTDIR)/etc/bash_completion.d
	bin/dyad completion bash > $(DESTDIR)/etc/bash_completion.d/dyad

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build
