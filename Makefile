# Commands of this repository; `make` lists them. A line `##@ …` begins a group of the list.

.DEFAULT_GOAL := help
.PHONY: help run build image image-test compose kubernetes-trial load bench record report instructions fuzz test test-long soak advisories openapi fmt

# The folder of cargo: rustup adds it to PATH only for the next login.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

help: ## List these targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' Makefile
	@printf '\nGuides, operation and reference: docs/README.md\n'

##@ Try it

run: ## Start a cluster here (Redis, REPLICAS=3, HAProxy on PORT=8080) until Ctrl-C; installs what is missing
	@deploy/run.sh

compose: ## Start REPLICAS=3 of the image, HAProxy, Redis, a collector, Prometheus and Grafana with Docker
	@deploy/compose.sh up --scale portcullis=$(or $(REPLICAS),3)

kubernetes-trial: ## Try the manifests on the cluster of KUBECONFIG, OVERLAY=local or sentinel, by default both: tests/kubernetes/trial.sh
	@tests/kubernetes/trial.sh all $(OVERLAY)

load: ## Run the load test SCRIPT=smoke against BASE=http://localhost:8080 (RATE_LIMIT=off make run); installs k6
	@deploy/install.sh load
	@K6_NO_USAGE_REPORT=true target/tools/bin/k6 run --quiet -e BASE=$(or $(BASE),http://localhost:8080) deploy/load/$(or $(SCRIPT),smoke).js

##@ Build

build: ## Build the release binary: target/release/portcullis
	cargo build --locked --release

image: ## Build the image portcullis:local with Docker
	docker build -f deploy/Dockerfile -t portcullis:local --build-arg REVISION=$$(git rev-parse --short HEAD) .

##@ Test

test: ## Run all checks and all tests; installs what is missing
	@deploy/install.sh test
	@.ci/test

test-long: ## Run all checks and all tests with the full number of rounds
	@deploy/install.sh test
	@.ci/test long

image-test: image ## Test the image, read-only and without root, with a real Redis and with the compose file
	@deploy/image-test.sh

soak: ## Run all operations at once for SECONDS=600, and check that nothing has grown
	@deploy/install.sh build redis
	@command -v cargo-nextest >/dev/null || cargo install --locked --quiet cargo-nextest
	PORTCULLIS_SOAK=$(or $(SECONDS),600) cargo nextest run --locked --no-capture -E 'test(/^soak::/)'

# Coverage instrumentation for libFuzzer, with the stable compiler.
sancov = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## Search for inputs that break TARGET=tokens (hashes records requests settings tokens), for SECONDS=60
	@deploy/install.sh fuzz
	@mkdir -p target/fuzz/corpus/$(or $(TARGET),tokens) target/fuzz/artifacts
	RUSTFLAGS="$(sancov) --cfg fuzzing" CARGO_TARGET_DIR=target/fuzz cargo build --release --locked --manifest-path tests/fuzz/guided/Cargo.toml --target $$(rustc -vV | sed -n 's/^host: //p')
	@cd target/fuzz && $$(rustc -vV | sed -n 's/^host: //p')/release/$(or $(TARGET),tokens) -max_total_time=$(or $(SECONDS),60) -max_len=8192 -timeout=30 -rss_limit_mb=4096 -artifact_prefix=artifacts/ corpus/$(or $(TARGET),tokens) ../../tests/fuzz/corpus/$(or $(TARGET),tokens)

advisories: ## Search for known vulnerabilities of dependencies in the RustSec database
	cargo deny --locked check --hide-inclusion-graph advisories

##@ Measure

bench: ## Measure side by side: everything in 45 minutes, or ONLY=requests,traced,… with ROUNDS=5 of SECONDS=4; installs what is missing
	@deploy/install.sh bench
	cargo build --locked --release
	@python3 -B tests/bench --only=$(ONLY) --rounds=$(or $(ROUNDS),5) --seconds=$(or $(SECONDS),4)

record: ## Save the last `make bench` as tests/bench/record.json, and run `make report`
	@python3 -B tests/bench/report.py --keep
	@$(MAKE) --no-print-directory report

report: ## Regenerate the tables and plots of README.md and docs/ from tests/bench/record.json
	@deploy/install.sh bench
	@target/tools/bin/python3 -B tests/bench/report.py

instructions: ## Update the instruction counts of the hot path: tests/bench/instructions.json
	@deploy/install.sh test
	@python3 -B tests/bench/instructions.py --update

##@ Develop

fmt: ## Format the code
	cargo fmt

openapi: ## Regenerate src/http/openapi.json from the code
	cargo run --locked --quiet -- openapi > target/openapi.json && mv target/openapi.json src/http/openapi.json
