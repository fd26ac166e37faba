# Kerngate. `make help` lists what there is to make.

# The version that binaries tell: a tag, or commit and date of a tree between tags.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# How long `make fuzz` runs each fuzz target.
FUZZTIME ?= 20s
# Where `make push` pushes the images: a registry and a path in it.
REGISTRY ?=

# Static binaries, the same bytes on every machine.
export CGO_ENABLED ?= 0
GOBUILD = go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
COMMANDS = kerngate-agent kerngate-proxy kerngatectl

.DEFAULT_GOAL := build
.PHONY: help build $(COMMANDS:%=bin/%) generate check-generate fmt lint test test-unit \
	test-kernel test-controlplane e2e test-applications test-vm test-matrix test-bare images push demo bench bench-l4 bench-flood bench-control attack fuzz setup clean

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

build: $(COMMANDS:%=bin/%) ## build bin/kerngate-agent, bin/kerngate-proxy and bin/kerngatectl

# Go decides what is up to date, and it is quick about it.
$(COMMANDS:%=bin/%): bin/%:
	$(GOBUILD) -o $@ ./cmd/$*

images: ## make the container images for amd64 and arm64 in bin/images, without an engine
	@VERSION=$(VERSION) scripts/images-build

push: ## push the images of bin/images to REGISTRY
	@VERSION=$(VERSION) scripts/images-build --push "$(REGISTRY)"

generate: ## compile the BPF C and the feed's protobuf, and render install.yaml again (clang-19, protoc)
	@scripts/setup build
	go generate ./...
	@scripts/chart-render

check-generate: ## prove that what is generated agrees with its source
	@scripts/setup build
	@scripts/check-generate

fmt: ## lay out Go and C
	@scripts/setup build
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')
	clang-format-19 -i $$(git ls-files -co --exclude-standard 'bpf/*.c' 'bpf/*.h')

lint: ## check layout, vet, staticcheck, shell scripts, import direction, manifests
	@scripts/setup build
	@scripts/lint

test: ## run all of the tests, installing what they need (root; without it, what it can)
	@scripts/test

test-unit: ## run the tests that need no privilege
	@scripts/test unit

test-kernel: ## run the BPF and loader tests on this machine's kernel (root)
	@scripts/test kernel

test-controlplane: ## run the tests against a real Kubernetes API server (root)
	@scripts/test controlplane

e2e: ## run the real binaries in network namespaces (root)
	@scripts/test e2e

test-applications: ## run all real servers with their clients beside nginx, and write docs/applications.md (root)
	@scripts/test applications-all

test-vm: ## load every program and send packets on other kernels, under emulation
	@scripts/test vm

test-matrix: ## run all BPF tests on other kernels, and write docs/kernels.md (before a release)
	@scripts/test matrix

test-bare: ## run make demo and make test on a bare Debian of their own (root; mmdebstrap)
	@scripts/setup bare
	@scripts/test-bare

demo: ## publish two services in a lab on this machine and show each step (root)
	@scripts/setup demo
	@scripts/demo

bench: ## measure Kerngate beside nginx and haproxy in one lab (root)
	@scripts/setup bench
	@scripts/bench

bench-l4: ## measure the kernel programs and L4 services, alone and beside others (root)
	@scripts/setup bench
	@scripts/bench-l4

bench-flood: ## measure what clients get during a SYN flood (root)
	@scripts/setup bench
	@scripts/bench-flood

bench-control: ## measure changes beside up to 100,000 Ingresses (root)
	@scripts/setup build test
	@scripts/bench-control

attack: ## run load attacks beside nginx and haproxy, and write docs/attacks.md (root; 20 minutes)
	@scripts/setup bench
	@scripts/attack -o docs/attacks.md

fuzz: ## run each fuzz target for FUZZTIME (20s)
	@scripts/fuzz $(FUZZTIME)

setup: ## install what building and testing need (Debian, root)
	@scripts/setup build test bench

clean: ## remove what make built
	rm -rf bin
