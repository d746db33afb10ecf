# Commands of this repository; `make` lists them. A line `##@ …` begins a group of that list.

.DEFAULT_GOAL := help
.PHONY: help run build image image-test compose kubernetes-trial load bench record report instructions fuzz test test-long soak advisories openapi fmt

# Where rustup puts cargo, before the next login has it in PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

help: ## List these targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' Makefile
	@printf '\nGuides, operation and reference: docs/README.md\n'

##@ Try it

run: ## Start a cluster here (Redis, REPLICAS=3, HAProxy on PORT=8080) until Ctrl-C; installs what is missing
	@deploy/run.sh

compose: ## Start REPLICAS=3 of that image, HAProxy, Redis, a collector, Prometheus and Grafana with Docker
	@deploy/compose.sh up --scale portcullis=$(or $(REPLICAS),3)

kubernetes-trial: ## Try the manifests on the cluster of KUBECONFIG, OVERLAY=local or sentinel, by default both: tests/kubernetes/trial.sh
	@tests/kubernetes/trial.sh all $(OVERLAY)

load: ## Run the load test SCRIPT=smoke against BASE=http://localhost:8080 (RATE_LIMIT=off make run); installs k6
	@deploy/install.sh load
	@K6_NO_USAGE_REPORT=true target/tools/bin/k6 run --quiet -e BASE=$(or $(BASE),http://localhost:8080) deploy/load/$(or $(SCRIPT),smoke).js

##@ Build

build: ## Build the program as it is released: target/release/portcullis
	cargo build --locked --release

image: ## Build the image portcullis:local with Docker
	docker build -f deploy/Dockerfile -t portcullis:local --build-arg REVISION=$$(git rev-parse --short HEAD) .

##@ Test

test: ## Check everything and run every test; installs what is missing
	@deploy/install.sh test
	@.ci/test

test-long: ## The same, with the full numbers in place of the smaller ones
	@deploy/install.sh test
	@.ci/test long

image-test: image ## Run that image, read-only and without root, against a real Redis, and the compose file with it
	@deploy/image-test.sh

soak: ## Everything at once for SECONDS=600; nothing may have grown afterwards
	@deploy/install.sh build redis
	@command -v cargo-nextest >/dev/null || cargo install --locked --quiet cargo-nextest
	PORTCULLIS_SOAK=$(or $(SECONDS),600) cargo nextest run --locked --no-capture -E 'test(/^soak::/)'

# Coverage, as libFuzzer wants it, from the stable compiler.
sancov = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## Look for inputs that TARGET=tokens (hashes records requests settings tokens) does not stand, for SECONDS=60
	@deploy/install.sh fuzz
	@mkdir -p target/fuzz/corpus/$(or $(TARGET),tokens) target/fuzz/artifacts
	RUSTFLAGS="$(sancov) --cfg fuzzing" CARGO_TARGET_DIR=target/fuzz cargo build --release --locked --manifest-path tests/fuzz/guided/Cargo.toml --target $$(rustc -vV | sed -n 's/^host: //p')
	@cd target/fuzz && $$(rustc -vV | sed -n 's/^host: //p')/release/$(or $(TARGET),tokens) -max_total_time=$(or $(SECONDS),60) -max_len=8192 -timeout=30 -rss_limit_mb=4096 -artifact_prefix=artifacts/ corpus/$(or $(TARGET),tokens) ../../tests/fuzz/corpus/$(or $(TARGET),tokens)

advisories: ## Look for known vulnerabilities in dependencies; asks the RustSec database
	cargo deny --locked check --hide-inclusion-graph advisories

##@ Measure

bench: ## Measure, side by side: all of it in three quarters of an hour, or ONLY=requests,traced,… with ROUNDS=5 of SECONDS=4; installs what is missing
	@deploy/install.sh bench
	cargo build --locked --release
	@python3 -B tests/bench --only=$(ONLY) --rounds=$(or $(ROUNDS),5) --seconds=$(or $(SECONDS),4)

record: ## Make what `make bench` has just measured the record that the docs quote: tests/bench/record.json
	@python3 -B tests/bench/report.py --keep
	@$(MAKE) --no-print-directory report

report: ## Write the tables and plots of the benchmarks in README.md and docs/ anew, from that record
	@deploy/install.sh bench
	@target/tools/bin/python3 -B tests/bench/report.py

instructions: ## Write down anew how many instructions the pieces of the hot path take: tests/bench/instructions.json
	@deploy/install.sh test
	@python3 -B tests/bench/instructions.py --update

##@ Develop

fmt: ## Format the code
	cargo fmt

openapi: ## Write src/http/openapi.json anew, from the code
	cargo run --locked --quiet -- openapi > target/openapi.json && mv target/openapi.json src/http/openapi.json
