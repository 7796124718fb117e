#!/usr/bin/env bash
# Trains and exports on a Cloud TPU VM through gcloud. `make tpu-…` calls it with one word:
# create, train, logs, tensorboard, export or delete. docs/cloud_tpu.md describes the variables.
# DRY_RUN=1 prints the gcloud commands without running them.
set -euo pipefail
cd "$(dirname "$0")/.."

NAME=${TPU_NAME:-cvpipe}
ZONE=${TPU_ZONE:-}
TYPE=${TPU_TYPE:-v5litepod-1}
VERSION=${TPU_VERSION:-v2-alpha-tpuv5-lite}
BUCKET=${TPU_BUCKET:-}
POLL=${TPU_POLL:-30}
WAIT=${TPU_WAIT:-7200}
RESTARTS=${TPU_RESTARTS:-20}
RUN_NAME=$(basename "${RUN:-runs/digits}")

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Run a command, or print it in a form that can be pasted into a shell.
do_() {
    if [ -n "${DRY_RUN:-}" ]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

tpus() {
    local kind=$1 verb=$2
    shift 2
    do_ gcloud compute tpus "$kind" "$verb" "$NAME" --zone "$ZONE" "$@"
}

# Run a command on the VM, in the home folder.
on_vm() { tpus tpu-vm ssh --command "$1" "${@:2}"; }

# Print READY, CREATING, PREEMPTED …; ABSENT if there is no such VM.
vm_state() {
    gcloud compute tpus tpu-vm describe "$NAME" --zone "$ZONE" --format 'value(state)' \
        2>/dev/null || echo ABSENT
}

queue_state() {
    gcloud compute tpus queued-resources describe "$NAME" --zone "$ZONE" \
        --format 'value(state.state)' 2>/dev/null || echo ABSENT
}

check() {
    command -v gcloud >/dev/null || [ -n "${DRY_RUN:-}" ] ||
        fail "gcloud is not installed; see https://cloud.google.com/sdk/docs/install"
    [ -n "$ZONE" ] || fail "TPU_ZONE is not set; for example TPU_ZONE=us-west4-a"
    case $TYPE in
    v2-8 | v3-8 | v4-8 | v5litepod-[148] | v5p-8 | v6e-[148]) ;;
    *) fail "TPU_TYPE=$TYPE has several hosts or is unknown; choose a type with one host: v2-8," \
        "v3-8, v4-8, v5litepod-1, -4 or -8, v5p-8, v6e-1, -4 or -8" ;;
    esac
}

check_bucket() {
    case $BUCKET in
    gs://?*) ;;
    *) fail "TPU_BUCKET='$BUCKET' is not a folder of a bucket; for example gs://my-bucket/cvpipe" ;;
    esac
}

delete() {
    if [ -n "${TPU_QUEUED:-}" ]; then
        tpus queued-resources delete --force --quiet
    else
        tpus tpu-vm delete --quiet
    fi
}

# Delete the VM and its queued request if they exist.
clear_away() {
    if [ "$(vm_state)" != ABSENT ] ||
        { [ -n "${TPU_QUEUED:-}" ] && [ "$(queue_state)" != ABSENT ]; }; then
        say "deleting the remains of $NAME"
        delete
    fi
}

wait_for_queue() {
    local began=$SECONDS state
    while :; do
        state=$(queue_state)
        case $state in
        ACTIVE) return 0 ;;
        FAILED | SUSPENDED | ABSENT) say "the request for $NAME is $state"; return 1 ;;
        esac
        [ $((SECONDS - began)) -lt "$WAIT" ] ||
            { say "the request for $NAME is still $state after $WAIT s"; return 1; }
        say "waiting for $TYPE in $ZONE: $state"
        sleep "$POLL"
    done
}

request() {
    local spot=()
    [ -z "${TPU_SPOT:-}" ] || spot=(--spot)
    if [ -z "${TPU_QUEUED:-}" ]; then
        tpus tpu-vm create --accelerator-type "$TYPE" --version "$VERSION" "${spot[@]}"
    else
        tpus queued-resources create --node-id "$NAME" --accelerator-type "$TYPE" \
            --runtime-version "$VERSION" "${spot[@]}" &&
            { [ -n "${DRY_RUN:-}" ] || wait_for_queue; }
    fi
}

# Create the VM. A ready VM is kept; a preempted or incomplete one is replaced.
create() {
    if [ -z "${DRY_RUN:-}" ]; then
        if [ "$(vm_state)" = READY ]; then
            say "$NAME is ready"
            return
        fi
        clear_away
    fi
    if ! request; then
        clear_away
        say "$NAME could not be created ($TYPE in $ZONE); gcloud's message is above. Nothing is" \
            "left that costs money. Another TPU_ZONE, TPU_SPOT=1 or TPU_QUEUED=1 may find one."
        return 1
    fi
}

# Copy the project, uncommitted files included, and install it with TensorFlow's build for TPUs.
install() {
    local archive
    archive=$(mktemp)
    git ls-files --cached --others --exclude-standard -z |
        tar --null --files-from - --create --gzip --file "$archive"
    do_ gcloud compute tpus tpu-vm scp "$archive" "$NAME:cvpipe.tar.gz" --zone "$ZONE" ||
        { rm -f "$archive"; return 1; }
    rm -f "$archive"
    on_vm "mkdir -p cvpipe && tar -xzf cvpipe.tar.gz -C cvpipe &&
        bash cvpipe/deploy/on_tpu_vm.sh install"
}

start() {
    # shellcheck disable=SC2086  # SET is a list of words.
    on_vm "$(printf '%q ' bash cvpipe/deploy/on_tpu_vm.sh start "$RUN_NAME" "$BUCKET" \
        "${TPU_DATA:-}" "${PIPELINE:-pipelines/classification/digits.yaml}" ${SET:-})"
}

# Print "running", or the exit code of the training; "unknown" if the VM can't be reached.
training_state() {
    on_vm "bash cvpipe/deploy/on_tpu_vm.sh state $(printf '%q' "$RUN_NAME")" 2>/dev/null ||
        echo unknown
}

# Wait for the training. Return 0 if it finished, 2 if it failed, 1 if it must be restarted.
follow() {
    local state unknown=0
    while :; do
        sleep "$POLL"
        state=$(training_state | tail -n 1)
        case $state in
        0) return 0 ;;
        running) unknown=0 ;;
        75) say "the training was stopped; restarting it"; return 1 ;;
        unknown)
            if [ "$(vm_state)" != READY ]; then
                say "$NAME is $(vm_state); the training continues from its copy in $BUCKET"
                return 1
            fi
            unknown=$((unknown + 1))
            [ "$unknown" -lt 10 ] || { say "$NAME is ready, but can't be reached"; return 1; }
            ;;
        *) say "the training ended with exit code $state; 'make tpu-logs' shows why"; return 2 ;;
        esac
    done
}

train() {
    local restart result
    check_bucket
    if [ -n "${DRY_RUN:-}" ]; then
        create && install && start
        return
    fi
    for ((restart = 0; restart <= RESTARTS; restart++)); do
        if ! create; then
            # A failed first request would fail again; after a preemption, a TPU may become free.
            [ "$restart" -gt 0 ] || exit 1
            sleep "$POLL"
            continue
        fi
        if install && start; then
            result=0
            follow || result=$?
            [ "$result" -ne 0 ] || { say "finished; the run is in $BUCKET/runs/$RUN_NAME"; return; }
            [ "$result" -ne 2 ] || exit 1
        elif [ "$(vm_state)" = READY ]; then
            fail "$NAME is ready, but cvpipe could not be installed or started there; see above." \
                "'make tpu-delete' ends its costs."
        fi
    done
    fail "the training was interrupted $RESTARTS times and is not finished; the run is in" \
        "$BUCKET/runs/$RUN_NAME, and 'make tpu-train' continues it"
}

logs() { on_vm "tail -n 200 -F $(printf '%q' "cvpipe/runs/$RUN_NAME.log")"; }

tensorboard() {
    say "http://localhost:6006"
    on_vm "cvpipe/.venv/bin/tensorboard --logdir cvpipe/runs --port 6006" -- -L 6006:localhost:6006
}

export_() {
    local model
    model=saved_models/$(basename "${MODEL:-saved_models/$RUN_NAME}")
    on_vm "cd cvpipe &&
        .venv/bin/cvpipe export $(printf '%q' "runs/$RUN_NAME") --to $(printf '%q' "$model")"
    do_ mkdir -p saved_models
    do_ gcloud compute tpus tpu-vm scp --recurse "$NAME:cvpipe/$model" saved_models --zone "$ZONE"
    [ -n "${DRY_RUN:-}" ] || say "exported to $model"
}

check
case ${1:-} in
create | train | logs | tensorboard | delete) "$1" ;;
export) export_ ;;
*) fail "'${1:-}' is not one of create, train, logs, tensorboard, export and delete" ;;
esac
