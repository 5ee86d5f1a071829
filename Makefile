# Two targets do all: `make quickstart` runs the example, `make test` runs every check.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/loci
MODEL := $(CACHE)/models/all-MiniLM-L6-v2
DECODER := $(CACHE)/models/SmolLM2-135M-Instruct.Q4_1.gguf
VENV  := $(CACHE)/venv
BENCH := $(CACHE)/venv-bench
VLLM  := $(CACHE)/venv-vllm
KUBE  := $(CACHE)/tools/$(shell sed -nE 's|^[[:space:]]*k8s\.io/kubernetes (v[0-9.]+).*|\1|p' tests/tools/controlplane/go.mod)
export CARGO_TARGET_DIR ?= $(CACHE)/target
export LOCI_TEST_MODEL := $(MODEL)
export LOCI_TEST_DECODER := $(DECODER)
export LOCI_TEST_PYTHON := $(VENV)/bin/python
export LOCI_TEST_KUBE := $(KUBE)
export LOCI_TEST_KUBECTL := $(VENV)/bin/kubectl
export LOCI_TEST_NATS := $(VENV)/bin/nats-server
export LOCI_TEST_HELM := $(KUBE)/helm
export LOCI_TEST_S3 := $(KUBE)/versitygw
LOCI := $(CARGO_TARGET_DIR)/release/loci

.PHONY: quickstart build image test e2e chaos cluster cluster-down packages lint model decoder python tools crds suites bench bench-fusion bench-scale escalation test-peft test-vllm help

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

quickstart: build examples/local/model ## Builds Loci and serves the example on 127.0.0.1:7700
	$(LOCI) up examples/local/pipeline.yaml --state .loci

build: ## Builds the `loci` binary
	cargo build --release --locked --bin loci

# With PEFT and vLLM where they are installed already; gigabytes are not fetched unasked.
test: lint model decoder python tools ## Installs what tests need and runs all of them
	cargo test --release --locked --workspace
	[ ! -e $(BENCH)/.done ] || $(MAKE) --old-file=$(BENCH)/.done test-peft
	[ ! -e $(VLLM)/.done ] || $(MAKE) --old-file=$(VLLM)/.done test-vllm
	$(MAKE) e2e

image: build ## Builds the image ghcr.io/loci-dev/loci from images/Containerfile
	$(or $(BUILDER),buildah) build --tag ghcr.io/loci-dev/loci:$(shell sed -n 's/^appVersion: //p' charts/loci/Chart.yaml) --file images/Containerfile $(dir $(LOCI))

e2e: build python model ## Runs the tests that need a whole Kubernetes, on one that it makes (root)
	CACHE=$(CACHE) BIN=$(KUBE) LOCI=$(LOCI) tests/cluster/run.sh

chaos: build python ## Breaks a cluster again and again, for LOCI_CHAOS_MINUTES (10), by LOCI_CHAOS_SEED (root)
	CACHE=$(CACHE) BIN=$(KUBE) LOCI=$(LOCI) tests/cluster/run.sh chaos statuses_agree

cluster: build python model ## Makes a Kubernetes with Loci on this machine, which stays, and says how to use it (root)
	cargo build --release --locked --bin loci-testbed
	CACHE=$(CACHE) BIN=$(KUBE) LOCI=$(LOCI) TESTBED=$(dir $(LOCI))loci-testbed MODEL=$(MODEL) tests/cluster/dev.sh

cluster-down: ## Ends that
	STATE=$(CACHE)/cluster NETNS=loci-dev tests/cluster/down.sh

packages: ## Installs the Debian packages that `make e2e` needs (root)
	scripts/install-packages.sh

lint: ## Formatting and clippy; and that the suites that come with Loci are as generated
	cargo fmt --all --check
	python3 scripts/make-suites.py --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

model: $(MODEL)/model.safetensors

$(MODEL)/model.safetensors: scripts/fetch-model.sh
	scripts/fetch-model.sh $(MODEL)

decoder: $(DECODER)

$(DECODER): scripts/fetch-decoder.sh
	scripts/fetch-decoder.sh $@

examples/local/model: $(MODEL)/model.safetensors
	ln -sfn $(MODEL) $@

python: $(VENV)/.done

$(VENV)/.done: tests/python/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement $<
	touch $@

tools: ## Builds the Kubernetes control plane and the S3 server that tests start, and Helm
	scripts/build-tools.sh $(KUBE) etcd kube-apiserver kube-controller-manager helm versitygw

# The text that is measured on: the documentation of the crates that Loci is built from.
DOCUMENTS := $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src
# And where that is too little, Rust's own.
MANUALS = $(shell rustc --print sysroot)/share/doc/rust/html

# Here and below the whole workspace is named: for one crate alone, dependencies have other features and are built anew.
test-peft: $(BENCH)/.done ## Loads by torch and peft an adapter that is trained here, and compares logits
	LOCI_TEST_PEFT=$(BENCH)/bin/python cargo test --release --locked --workspace --test it -- --ignored peft_loads

test-vllm: build model decoder python $(VLLM)/.done ## Serves adapters by a real vLLM, on this machine's processor; installs it (6 GB)
	cargo test --release --locked --workspace --no-run
	scripts/with-vllm.sh $(VLLM) $(DECODER) $(CACHE)/models/SmolLM2-135M-Instruct \
		cargo test --release --locked --workspace --lib --test it -- --nocapture a_real_vllm
	CACHE=$(CACHE) BIN=$(KUBE) LOCI=$(LOCI) VLLM=$(VLLM) tests/cluster/run.sh vllm

$(VLLM)/.done: scripts/install-vllm.sh
	rm -rf $(VLLM)
	scripts/install-vllm.sh $(VLLM)
	touch $@

bench: build model decoder examples/local/model $(BENCH)/.llama $(BENCH)/.search ## Measures what docs/performance.md reports
	$(LOCI) bench embed --model $(MODEL) --documents $(DOCUMENTS) --python $(BENCH)/bin/python
	$(LOCI) bench serve examples/local/pipeline.yaml
	$(LOCI) bench refresh --model $(MODEL) --documents $(DOCUMENTS)
	$(LOCI) bench churn --documents $(DOCUMENTS) --slower 1.5 --larger 2
	$(LOCI) bench generate --model $(DECODER) --documents $(DOCUMENTS) --python $(BENCH)/bin/python
	$(LOCI) bench train --model $(DECODER) --documents $(DOCUMENTS) --python $(BENCH)/bin/python --faster 1.3 --memory 0.65
	$(LOCI) bench search --model $(MODEL) --documents $(DOCUMENTS) --documents $(MANUALS) --cache $(CACHE)/bench --python $(BENCH)/bin/python \
		--recall 0.97 --p50 0.3ms --filtered-recall 0.97 --filtered-p50 3ms --http-p50 5ms --http-p99 15ms --memory 1.2

bench-fusion: build model $(CACHE)/faq.json ## Measures fusion on the FAQs of Debian and Python; DATA=FILE for other questions in SQuAD's JSON
	$(LOCI) bench fusion --model $(MODEL) --data $(or $(DATA),$(CACHE)/faq.json)

$(CACHE)/faq.json: scripts/faq-to-squad.py
	rm -rf $(CACHE)/faq
	mkdir -p $(CACHE)/faq
	cd $(CACHE)/faq && apt-get download debian-faq python3.11-doc
	for package in $(CACHE)/faq/*.deb; do dpkg -x $$package $(CACHE)/faq; done
	python3 $< $@ $(CACHE)/faq/usr/share/doc/debian/FAQ/*.en.html $(CACHE)/faq/usr/share/doc/python3.11/html/faq/*.html

escalation: decoder ## Teaches a model a protocol, and measures what that gains and costs; FLAGS for a quick try
	cargo build --release --locked --workspace --example escalation
	@$(CARGO_TARGET_DIR)/release/examples/escalation --model $(DECODER) $(FLAGS)

bench-scale: python tools ## Measures an operator with 10,000 settled pipelines on a bare control plane
	GOGC=400 LOCI_SCALE=$(or $(PIPELINES),10000) cargo test --release --locked --workspace --test it -- --nocapture settled_pipelines_cost

$(BENCH)/.done: tests/python/bench.txt
	python3 -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --requirement $<
	touch $@

suites: ## Writes worker/suites anew
	python3 scripts/make-suites.py

# llama.cpp is built from its sources, for this machine, which takes minutes: nothing but `bench` waits for it.
$(BENCH)/.llama: tests/python/bench-llama.txt $(BENCH)/.done
	CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" $(BENCH)/bin/pip install --quiet --requirement $<
	touch $@

# hnswlib has no wheels: it is built from its sources, in a minute.
$(BENCH)/.search: tests/python/bench-search.txt $(BENCH)/.done
	$(BENCH)/bin/pip install --quiet --requirement $<
	touch $@

crds: ## Writes crds/yaml anew
	cargo build --release --workspace --example generate
	CARGO_MANIFEST_DIR=crds $(CARGO_TARGET_DIR)/release/examples/generate
