ifneq ($(words $(CURDIR)),1)
$(error the path of this folder holds a space, which make cannot take: $(CURDIR))
endif
PYTHON ?= python3
ROS ?= jazzy
SUFFIX := $(if $(filter-out jazzy,$(ROS)),-$(ROS))
VENV ?= .venv$(SUFFIX)
# The set that CI proves needs Python 3.11; Python 3.10 gets the newest versions that run there, but
# torch's, for which there is a torch_npu to test with.
ifeq ($(origin CONSTRAINTS),undefined)
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("constraints$(SUFFIX).txt" \
	if sys.version_info >= (3, 11) else "constraints-python3.10.txt")')
endif
TORCH_INDEX ?=
ARGS ?=
DURATION ?= 10m

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip install $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
SOURCES := $(sort $(shell find pi0_ros msg launch config scripts cmake -type f -not -name '*.pyc')) \
	CMakeLists.txt package.xml

# Another virtual environment or another ROS in the user's shell must not reach this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO RMW_IMPLEMENTATION
unexport FASTRTPS_DEFAULT_PROFILES_FILE FASTDDS_DEFAULT_PROFILES_FILE ROS_LOCALHOST_ONLY
# ROS traffic and ROS logs stay on this machine and in this folder.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_LOG_DIR := $(CURDIR)/build/log
RUN := env AMENT_PREFIX_PATH=$(dir $(BIN)) PATH="$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help venv demo replay-demo test test-fast soak reference openpi parity bench npu graph-report \
	docs site lint lock clean FORCE

help:
	@echo 'make demo    set up $(VENV); a simulated arm touches what it is told to: build/demo/demo.gif'
	@echo 'make replay-demo  set up $(VENV), play a recorded arm to the node, print what it did'
	@echo 'make test    set up $(VENV) and run all tests (ARGS="-k name" for some)'
	@echo 'make test-fast  the unit tests, without those that compile: two minutes'
	@echo 'make soak    try faults on the node for DURATION (now $(DURATION)), write docs/reliability.md'
	@echo 'make parity  compare with LeRobot and write docs/parity.md'
	@echo 'make bench   race LeRobot at full size on a quiet machine, write docs/performance.md'
	@echo 'make graph-report  what the model becomes on Ascend (ARGS="--config full")'
	@echo 'make docs    write the generated pages of docs/, build the site: build/site/index.html'
	@echo 'make lint    ruff'
	@echo 'make venv    set up $(VENV) only'
	@echo 'make lock    write constraints$(SUFFIX).txt anew from $(VENV)'
	@echo 'make clean   remove $(VENV) and everything built'
	@echo
	@echo 'ROS=jazzy|kilted  the ROS 2 wheels to use             (now $(ROS))'
	@echo 'PYTHON=...        the Python to start from, 3.10-3.13 (now $(PYTHON))'
	@echo 'VENV=...          the virtual environment             (now $(VENV))'
	@echo 'TORCH_INDEX=URL   wheel index to take torch from, such as the one for CPU that'
	@echo "                  PyTorch's Get-started page names; saves the 2 GB of CUDA"
	@echo 'CONSTRAINTS=FILE  versions to install; empty: the newest that setup.py allows'
	@echo '                  (now $(or $(CONSTRAINTS),empty))'

venv: $(VENV)/.installed

# Two steps, so that an edited module costs seconds: first ROS, which builds the messages ...
$(VENV)/.ros: requirements/ros-$(ROS).txt $(CONSTRAINTS)
	@echo '== $(VENV): ROS 2 $(ROS)'
	$(PYTHON) -m venv --clear --upgrade-deps $(VENV)
	$(PIP) -r $<
	@touch $@

# ... then torch and all else that setup.py asks for ...
$(VENV)/.installed: $(VENV)/.ros $(VENV)/.sources setup.py pyproject.toml requirements/robot.txt $(SOURCES)
	@echo '== $(VENV): torch and pi0_ros'
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) --no-build-isolation '.[plot,sim,view,lerobot-data,test]'
	@touch $@

# A file that went away installs anew too.
$(VENV)/.sources: $(VENV)/.ros FORCE
	@echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' > $@

demo: venv
	@$(RUN) pi0 demo --out build/demo --overwrite --json build/demo/report.json $(ARGS)

replay-demo:
	@echo '[1/4] The environment in $(VENV)'
	@$(MAKE) --no-print-directory venv
	@echo '[2/4] A bag of a simulated arm: build/replay-demo/bag'
	@rm -rf build/replay-demo && mkdir -p build/replay-demo
	@$(RUN) pi0 demo bag build/replay-demo/bag
	@echo '[3/4] A small checkpoint with random weights: build/replay-demo/checkpoint'
	@$(RUN) pi0 demo checkpoint build/replay-demo/checkpoint
	@echo '[4/4] The bag, played to the node over DDS: build/replay-demo/out'
	@$(RUN) pi0 replay build/replay-demo/bag --checkpoint build/replay-demo/checkpoint \
		--params config/demo.yaml --out build/replay-demo/out --json build/replay-demo/report.json

# Files in parallel, one more than cores: tests over DDS wait, each in a domain of its own. Which
# come first says test/conftest.py.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(len(os.sched_getaffinity(0)) + 1, 5))')
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test: venv reference npu openpi site
	$(RUN) python -m pytest $(PARALLEL) $(ARGS)

test-fast: venv
	$(RUN) python -m pytest test/unit -m 'not (ros or reference or npu or compile or slow)' \
		$(PARALLEL) $(ARGS)

# Every fault again and again, thousands of life cycles, and growth: for as long as asked.
soak: venv
	$(RUN) PYTHONPATH=.:test python -m support.faults.soak --duration $(DURATION) \
		--write docs/reliability.md --json build/soak.json $(ARGS)

# LeRobot, which the parity tests compare with.
reference: venv
	$(RUN) PYTHONPATH=test python -m reference.install build/reference

# openpi's client and server, apart from the environment: they need an older numpy.
openpi: venv
	$(RUN) PYTHONPATH=test python -m support.openpi.install build/openpi

# torch_npu, apart from the environment, whose torch it would replace in part.
npu: venv
	$(RUN) python test/npu/install.py build/npu

graph-report: npu
	$(RUN) PYTHONPATH=build/npu TORCH_DEVICE_BACKEND_AUTOLOAD=0 python -m benchmarks.graph_report $(ARGS)

parity: reference
	$(RUN) PYTHONPATH=.:test python -m reference.parity docs/parity.md

# Half an hour on two cores that have nothing else to do; 14 GB of memory, 8 GB of disk.
bench: reference
	$(RUN) python -m benchmarks.race --everything --peers build/reference --dir build/bench --plot docs/performance.png \
		--json build/bench.json --write docs/performance.md $(ARGS)

# Pages first, then the site, with every link checked.
docs: venv
	$(RUN) PYTHONPATH=. python docs/commands.py > docs/commands.md
	$(RUN) PYTHONPATH=. python docs/parameters.py > docs/parameters.md
	$(BIN)/python docs/files.py
	@$(MAKE) --no-print-directory site

# MkDocs has an environment of its own: the site reads the package's sources and imports nothing.
SITE := build/docs-venv
PAGES := $(shell find docs -type f) mkdocs.yml $(shell find pi0_ros -name '*.py')
site: build/site/index.html
$(SITE)/.installed: requirements/docs.txt
	@echo '== $(SITE): MkDocs'
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@
build/site/index.html: $(SITE)/.installed $(PAGES)
	NO_MKDOCS_2_WARNING=true $(SITE)/bin/mkdocs build --strict --quiet
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: venv
	$(BIN)/python requirements/lock.py > constraints$(SUFFIX).txt

clean:
	rm -rf $(VENV) build install log *.egg-info
