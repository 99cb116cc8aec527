# `make` lists the targets. The work is in scripts/, so that it also runs without make.

.DEFAULT_GOAL := help
.PHONY: help demo test bench compare fmt

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 10

demo: ## Run the gateway and the workers on sample input, with a private Redis (ARGS=... for the demo)
	@scripts/demo.sh $(ARGS)

test: ## Check everything: format, lints, tests, docs, dependencies
	@scripts/test.sh

bench: ## Measure throughput and CPU per job (ARGS=... for the benchmark)
	@scripts/bench.sh $(ARGS)

compare: ## Measure Oxbull against other job queues (ARGS=... for the harness)
	@scripts/compare.sh $(ARGS)

fmt: ## Format the code
	@cargo fmt --all
