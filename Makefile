# Two commands matter: make quickstart, make test. The rest are their parts.

PYTHON ?= python3
BIN := .venv/bin
QUICKSTART := submissions/quickstart
QUICKSTART_SIZES := --tokens 4096 --set model.num_layers=3 --set model.model_dim=80 --set model.num_heads=4 \
	--set model.num_kv_heads=2 --set schedule.train_seq_len=256
DATA ?= data
# What Ray Tune, a rival in the benchmark of strategies, imports beside Ray.
TUNE := pandas==3.1.1 pyarrow==26.0.1 tensorboardX==2.6.5

.PHONY: quickstart setup fmt check test test-gpu bench bench-search bench-gpu

quickstart: .venv/.trainer data/quickstart/dataset.json ## a finished two-rung study and a verified submission
	$(BIN)/caddie run studies/quickstart.yaml
	test -d $(QUICKSTART) || $(BIN)/caddie export quickstart --out $(QUICKSTART) --author "Your Name" --github-id your-id
	@# --unsafe: where this machine cannot isolate a program, run it all the same; it is the trainer that has just run.
	$(BIN)/caddie verify $(QUICKSTART) --rerun --unsafe
	@echo
	@echo "Next: source .venv/bin/activate; caddie status quickstart; caddie dashboard"

data/quickstart/dataset.json: | .venv/.trainer
	$(BIN)/caddie data build --docs studies/sample/docs_sample.jsonl.xz --vocab-size 1024 --val-documents 40 --out data/quickstart

setup: .venv/.dev ## the development environment

.venv/.trainer: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[trainer]"
	touch $@

.venv/.dev: .venv/.trainer
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[trainer,dev]"
	touch $@

fmt: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: .venv/.dev ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

test: .venv/.dev ## everything that must pass
	@# A file is one worker's: its fixtures are made once. In order: the long ones, of tests/integration, come first.
	@# One worker more than there are cores: many tests wait for processes that start.
	$(BIN)/pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder -m "not gpu"

test-gpu: ## on a machine with a CUDA device, in its own environment
	python3 -m pytest -m gpu tests/gpu

bench: .venv/.dev data/quickstart/dataset.json ## timings, never part of the tests
	PYTHONPATH=.:tests $(BIN)/python tests/bench/gpu_step.py --dataset data/quickstart $(QUICKSTART_SIZES)
	PYTHONPATH=.:tests $(BIN)/python tests/bench/gpu_sliding.py --dataset data/quickstart $(QUICKSTART_SIZES) --eval-tokens 16384

bench-search: .venv/.dev ## strategies of search on the surrogate of real runs: hours; goes on where it was stopped
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "ray[tune]" $(TUNE)
	PYTHONPATH=.:tests $(BIN)/python tests/bench/strategies.py --out docs/search.md $(BENCH_OPTIONS)

bench-gpu: ## on a machine with CUDA devices, in its own environment; DATA as tests/bench/build_shards.py makes it
	python3 tests/bench/gpu.py --data $(DATA) --out docs/performance.md $(BENCH_OPTIONS)
