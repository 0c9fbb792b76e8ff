# What one does with tailwater. `make` alone lists it.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# One static binary, the same bytes from the same commit on any machine.
export CGO_ENABLED := 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILD   := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Whose file is shown by `make run`; empty: live traffic that loggen makes.
LOGS ?=
# Seconds that all fuzz targets of `make test` share; `make fuzz` gives each of them FUZZ_EACH.
FUZZ_TOTAL ?= 45
FUZZ_EACH  ?= 60s

TOOL := go tool -modfile=tools/go.mod

# When the commit was made: the time that packages and images carry.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
ARCHS ?= amd64 arm64
# Where packages and images go.
DIST ?= out

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

.PHONY: build
build: ## build bin/tailwater
	$(BUILD) -o bin/ ./cmd/tailwater

BINARIES := $(ARCHS:%=$(DIST)/linux-%/tailwater)
.PHONY: $(BINARIES)
$(BINARIES): $(DIST)/linux-%/tailwater:
	GOOS=linux GOARCH=$* $(BUILD) -o $@ ./cmd/tailwater

.PHONY: package
package: $(BINARIES) ## build the deb and the rpm, for amd64 and arm64, into out/packages
	rm -rf $(DIST)/packages
	for a in $(ARCHS); do deploy/packages/build $$a $(DIST)/linux-$$a/tailwater $(DIST)/packages '$(VERSION)'; done

.PHONY: image
image: $(BINARIES) ## assemble the container image, for amd64 and arm64, as out/tailwater-image.tar
	go run -C tools/image . -o $(abspath $(DIST))/tailwater-image.tar -version '$(VERSION)' -revision '$(COMMIT)' \
	  -created $(SOURCE_DATE_EPOCH) $(foreach a,$(ARCHS),$a=$(abspath $(DIST))/linux-$a/tailwater)

.PHONY: run
run: build ## see the main job on live logs; LOGS='/var/log/nginx/*.log' for your own files
	@LOGS='$(LOGS)' examples/live

.PHONY: demo
demo: build ## log -> Kafka -> Elasticsearch with real servers, and a query at the end
	@examples/demo

.PHONY: test
test: lint build examples kube-tools ## everything that must hold before a change lands, in under 15 minutes
	tools/fuzz total $(FUZZ_TOTAL)
	CGO_ENABLED=1 go test -count=1 -race -timeout 10m $$(go list ./... | grep -v '/test/')
	TAILWATER_BIN=$(CURDIR)/bin/tailwater go test -count=1 -p 2 -timeout 10m ./test/...

.PHONY: race
race: ## the unit tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 20m ./...

.PHONY: lint
lint: ## gofmt, vet, staticcheck, shellcheck
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...
	go -C tools/image vet ./...
	tools/shell

.PHONY: examples
examples: build ## check every example configuration
	@for f in examples/*.yaml; do echo "tailwater check -c $$f"; bin/tailwater check -c $$f; done

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_EACH
	tools/fuzz each $(FUZZ_EACH)

.PHONY: bench
bench: ## compare with the hand-written limit; results go to bench/results/
	go run ./bench/run

.PHONY: pgo
pgo: ## renew the profile that the compiler optimises the hot path by, on a quiet machine
	go test -trimpath -o out/chain.test ./agent -run xxx -bench Chain -benchtime 6s -cpuprofile cmd/tailwater/default.pgo

.PHONY: e2e
e2e: kube-tools ## the tests that need the real binary, nginx and logrotate
	go test -p 1 -count=1 -timeout 15m ./test/...

.PHONY: services
services: ## a real Kafka and Elasticsearch on this machine; see test/env/services-up
	@test/env/services-up out/services

.PHONY: services-down
services-down: ## stop them; REMOVE=1 forgets their data
	@test/env/services-down out/services $(if $(REMOVE),--remove)

.PHONY: kube-tools
kube-tools: ## build the kustomize and helm of the tests, once: minutes on a bare machine
	@for t in kustomize helm; do go tool -modfile=tools/$$t/go.mod $$t version >/dev/null; done

.PHONY: torture
torture: kube-tools ## e2e with the long ones: TORTURE=10m is the time for each
	TAILWATER_TORTURE=$(or $(TORTURE),10m) go test -count=1 -timeout 1h -v ./alert/fleet
	TAILWATER_TORTURE=$(or $(TORTURE),10m) go test -p 1 -count=1 -timeout 4h -v ./test/...

.PHONY: clean
clean: services-down ## remove what the other targets made
	rm -rf bin out
