#!/usr/bin/env bash
# Commands that deploy/cloud_tpu.sh runs on the TPU VM: install | start RUN BUCKET DATA PIPELINE
# [SET …] | work RUN BUCKET PIPELINE [SET …] | state RUN.
set -euo pipefail
cd "$(dirname "$0")/.."

# tensorflow-tpu is imported as tensorflow. Installing tensorflow, also as a dependency, would
# overwrite it with the CPU build, and training would silently lose the TPU. The overrides make uv
# leave tensorflow out.
install() {
    local uv=.uv/bin/uv
    [ -x "$uv" ] || { python3 -m venv .uv && .uv/bin/pip install --quiet uv; }
    [ -d .venv ] || "$uv" venv --quiet --python 3.11 .venv
    grep -v '^tensorflow==' constraints.txt >.tpu-constraints.txt
    "$uv" pip install --quiet --python .venv/bin/python --constraint .tpu-constraints.txt \
        --override deploy/tpu_overrides.txt --requirement deploy/tpu_requirements.txt --editable .
    if .venv/bin/python -c 'from importlib import metadata; metadata.version("tensorflow")' \
        2>/dev/null; then
        echo "tensorflow is installed over tensorflow-tpu; delete cvpipe/.venv on the VM and" \
            "install again" >&2
        return 1
    fi
}

# Copy the run to the bucket. `work` tries again after a minute if a copy fails.
keep() { gcloud storage rsync --recursive "runs/$1" "$2/runs/$1" >/dev/null 2>&1 || true; }

work() {
    local run=$1 bucket=$2 pipeline=$3 code=0 keeper
    shift 3
    # Without a TPU, train.strategy=tpu fails, whereas "auto" would train on the CPU.
    local set=(--set train.strategy=tpu)
    for pair; do set+=(--set "$pair"); done
    while sleep "${TPU_KEEP:-60}"; do keep "$run" "$bucket"; done &
    keeper=$!
    .venv/bin/cvpipe train "$pipeline" --run "runs/$run" "${set[@]}" \
        >>"runs/$run.log" 2>&1 || code=$?
    kill "$keeper" || true
    keep "$run" "$bucket"
    echo "$code" >"runs/$run.exit"
}

start() {
    local run=$1 bucket=$2 data=$3
    shift 3
    if [ "$(state "$run")" = running ]; then
        return
    fi
    mkdir -p runs
    rm -f "runs/$run.exit"
    # Restore the checkpoints of an earlier VM.
    if [ ! -d "runs/$run" ] && gcloud storage ls "$bucket/runs/$run" >/dev/null 2>&1; then
        mkdir -p "runs/$run"
        gcloud storage rsync --recursive "$bucket/runs/$run" "runs/$run"
    fi
    if [ -n "$data" ]; then
        mkdir -p data
        gcloud storage rsync --recursive "$data" data
    fi
    nohup setsid bash deploy/on_tpu_vm.sh work "$run" "$bucket" "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"runs/$run.pid"
}

state() {
    if [ -f "runs/$1.exit" ]; then
        cat "runs/$1.exit"
    elif [ -f "runs/$1.pid" ] && kill -0 "$(cat "runs/$1.pid")" 2>/dev/null; then
        echo running
    else
        # The process was killed, for example by a restart of the VM: training must be restarted.
        echo 75
    fi
}

"$@"
