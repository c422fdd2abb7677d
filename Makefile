# make help tells what there is.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
CODE := service dbus tests lab

# What the checks use of Debian's: the service's own libraries, a bus to test on, and what reads the files we make.
CHECK_PACKAGES := dbus dbus-daemon fish genisoimage groff libglib2.0-bin libxml2-utils osinfo-db ovmf polkitd python3-dbus-next \
    python3-dbusmock python3-jeepney python3-libvirt python3-prometheus-client python3-pycdlib python3-pyudev \
    python3-systemd python3-venv qemu-utils systemd zsh

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: ## on a bare machine: a VM created, booted, snapshotted, ruined, rolled back, cloned ten times
	@lab/demo

.PHONY: test
test: check rpm ## everything that can be proven: check, the packages, and the tests on two benches at once
	@lab/tests

.PHONY: soak
soak: ## hours on the bench: both matrices whole, chaos, and 20 power cuts on one that loses what was not flushed
	@lab/soak

.PHONY: check
check: lint ## without a bench, in two minutes: lint, types, unit tests, tests on a private bus
	@$(BIN)/pytest -q -n auto tests/unit tests/bus

.PHONY: lint
lint: $(VENV)/ready ## style, types, the bus contract
	@$(BIN)/ruff check --quiet --output-format concise $(CODE)
	$(BIN)/ruff format --check --quiet $(CODE) || { echo "make format mends this"; exit 1; }
	$(BIN)/mypy
	$(PYTHON) dbus/lint.py
	$(PYTHON) dbus/generate.py client --check
	$(PYTHON) dbus/generate.py hook --check
	$(PYTHON) dbus/generate.py texts --check
	xmllint --noout --nonet dbus/*.xml dbus/*.conf polkit/*.policy

.PHONY: format
format: $(VENV)/ready ## what ruff can mend by itself
	@$(BIN)/ruff check --quiet --fix $(CODE)
	$(BIN)/ruff format --quiet $(CODE)

.PHONY: deb
deb: ## build/kldload-kvm_VERSION_all.deb
	@debian/build-deb

.PHONY: rpm
rpm: deb ## build/kldload-kvm-VERSION-1.noarch.rpm, for Fedora and Rocky, checked
	@rpm/build-rpm

.PHONY: bench
bench: ## how long things take, against their floors, on the bench
	@lab/measure

.PHONY: clean
clean: ## removes what the other targets left in the checkout
	@rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tools: Debian's libraries, as the package will have them, and the pinned ones of requirements-dev.txt.
$(VENV)/ready: requirements-dev.txt Makefile
	@missing=()
	for package in $(CHECK_PACKAGES); do
	    [ "$$(dpkg-query -f '$${db:Status-Status}' -W $$package 2> /dev/null)" = installed ] || missing+=($$package)
	done
	if [ $${#missing[@]} -gt 0 ]; then
	    echo "check: installing Debian's $${missing[*]}"
	    as_root=(); [ "$$(id -u)" = 0 ] || as_root=(sudo)
	    mkdir -p build
	    { "$${as_root[@]}" apt-get -q update &&
	      "$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install "$${missing[@]}"
	    } < /dev/null > build/check-apt.log 2>&1 || { tail -n 20 build/check-apt.log >&2; exit 1; }
	fi
	echo "check: making $(VENV)"
	/usr/bin/python3 -m venv --system-site-packages --clear $(VENV)
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@
