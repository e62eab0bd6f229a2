# SPDX-License-Identifier: Apache-2.0
# What a contributor can do. Run a recipe with ./run RECIPE: it prepares .venv first.

set shell := ["bash", "-euo", "pipefail", "-c"]

export OMP_NUM_THREADS := "1"
export OPENBLAS_NUM_THREADS := "1"
export PYTHONDONTWRITEBYTECODE := env("PYTHONDONTWRITEBYTECODE", "")

[private]
default:
    @just --list --unsorted

# Start the box and let a caller hold a conversation with it over SIP
demo *ARGS:
    @python -m appliance.demo {{ARGS}}

# Run a box: ./run serve --config configs/appliance.toml
serve *ARGS:
    @trunkline serve {{ARGS}}

# Run a hub with its own PostgreSQL and NATS; it prints the first owner's link
hub *ARGS:
    @python -m cloud_hub {{ARGS}}

# Put the CUDA builds of the engines into .venv: ./run setup --gpu
setup *ARGS:
    @python tools/setup.py {{ARGS}}

# Check this machine and the configuration: every finding comes with a remedy
doctor *ARGS:
    @trunkline doctor {{ARGS}}

# Run all tests, or some: ./run test tests/call -k barge
test *ARGS: peers
    @python -m pytest {{ARGS}}

# Install what the tests call over SIP, Asterisk among it, and build pjsua2, unless that was done before
[private]
peers:
    @tests/peers.sh
    @python plugins/sip/build_pjsua2.py
    @python -m tests.telephony.asterisk_lab >/dev/null

# Check style and the direction of dependencies
lint:
    @ruff check .
    @ruff format --check .
    @lint-imports

# Check types
types:
    @mypy

# Lint, types and all tests
check: lint types test

# Build pjsua2 with room for 256 calls; the ready wheel holds 4
build-pjsua2 *ARGS:
    @python plugins/sip/build_pjsua2.py {{ARGS}}

# Measure answer latency, barge-in, CPU and memory per call: ./run bench-call --json FILE
bench-call *ARGS:
    @python -m tests.benchmarks.call {{ARGS}}

# Measure the model's scheduler against one request at a time
bench-llm *ARGS:
    @python -m tests.benchmarks.llm {{ARGS}}

# Measure the recognizer's scheduler against 30 s windows
bench-asr *ARGS:
    @python -m tests.benchmarks.asr {{ARGS}}

# Measure the streamed synthesizer against whole sentences
bench-tts *ARGS:
    @python -m tests.benchmarks.tts {{ARGS}}

# Measure voice activity in one batch against one session a call
bench-vad *ARGS:
    @python -m tests.benchmarks.vad {{ARGS}}

# Measure the media plane alone
bench-media *ARGS:
    @python -m tests.benchmarks.media {{ARGS}}

# Measure how many calls this machine holds within a target, and where the time goes
bench-capacity *ARGS:
    @python -m tests.benchmarks.capacity {{ARGS}}

# Measure whole agents side by side: Trunkline, Pipecat, LiveKit Agents (installs them apart, about 2 GB)
bench-peers *ARGS:
    @python -m tests.benchmarks.peers {{ARGS}}

# Call a box for half an hour at 80 % of its capacity: ./run bench-soak --capacity 10 --json FILE
bench-soak *ARGS:
    @python -m tests.benchmarks.soak {{ARGS}}

# Kill parts of a real hub and its boxes while they talk, then count every row: ./run hub-losses --kill each --json FILE
hub-losses *ARGS:
    @python -m tests.hub.losses {{ARGS}}

# Measure what a misbehaving engine does to the audio of the calls: ./run bench-isolation --json FILE
bench-isolation *ARGS:
    @python -m tests.benchmarks.isolation {{ARGS}}

# Measure the hub: a thousand boxes, a backlog of days, a million calls: ./run bench-hub --json FILE
bench-hub *ARGS:
    @python -m tests.benchmarks.hub {{ARGS}}

# Train the starter models from nothing: ./run train-starter --work DIR
train-starter *ARGS:
    @plugins/starter_models/train.sh {{ARGS}}

# Write the reference pages of docs/ from the code
docs:
    @python tools/docs.py

# Pin all dependencies anew, with hashes
lock:
    @python tools/lock.py

# Remove what recipes made, except what takes long to build
clean:
    @rm -rf .venv build dist var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
    @find . -name __pycache__ -not -path './.cache/*' -prune -exec rm -rf {} +
