"""A fake gcloud: the folder FAKE_CLOUD stands for a cloud with one TPU VM and one bucket.

`commands.jsonl` records each call. `plan.json` says what fails: "create" lists the outcomes of
successive requests ("quota", "half", "ok"); "preempt_at" is the number of steps in the bucket at
which the VM is preempted, once; "queue" lists the states of a queued request. Commands sent by
`ssh` run in the VM's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

CLOUD = Path(os.environ["FAKE_CLOUD"])
VM, STATE = CLOUD / "vm", CLOUD / "state"


def take(key: str, otherwise: str) -> str:
    """Return the next entry of a list in the plan, or `otherwise` after its last."""
    plan: dict[str, Any] = json.loads((CLOUD / "plan.json").read_text())
    if not plan.get(key):
        return otherwise
    value, plan[key] = plan[key][0], plan[key][1:]
    (CLOUD / "plan.json").write_text(json.dumps(plan))
    return str(value)


def lose_the_vm(state: str) -> None:
    """End the processes of the VM and empty its disk."""
    for file in VM.glob("cvpipe/runs/*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)
    shutil.rmtree(VM, ignore_errors=True)
    STATE.write_text(state) if state else STATE.unlink(missing_ok=True)


def create() -> int:
    outcome = take("create", "ok")
    if outcome == "quota":
        print("ERROR: RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepod' exceeded.", file=sys.stderr)
        return 1
    VM.mkdir()
    STATE.write_text("CREATING" if outcome == "half" else "READY")
    if outcome == "half":
        print("ERROR: timed out while waiting for the operation", file=sys.stderr)
        return 1
    return 0


def describe(queued: bool) -> int:
    if queued:
        print(take("queue", "ACTIVE"))
    elif not STATE.exists():
        print("ERROR: NOT_FOUND", file=sys.stderr)
        return 1
    else:
        print(STATE.read_text())
    return 0


def ssh(command: str) -> int:
    plan = json.loads((CLOUD / "plan.json").read_text())
    steps = [len(file.read_text().split()) for file in (CLOUD / "bucket").rglob("steps")]
    if "preempt_at" in plan and max(steps, default=0) >= plan["preempt_at"]:
        del plan["preempt_at"]
        (CLOUD / "plan.json").write_text(json.dumps(plan))
        lose_the_vm("PREEMPTED")
        (CLOUD / "waits").unlink()
    if not STATE.exists() or STATE.read_text() != "READY":
        return 255
    return subprocess.run(["bash", "-c", command], cwd=VM, check=False).returncode


def scp(source: str, target: str) -> int:
    here = Path(target.split(":", 1)[1]) if ":" in target else Path(target)
    if ":" in source:
        shutil.copytree(VM / source.split(":", 1)[1], here / Path(source).name, dirs_exist_ok=True)
    else:
        shutil.copy(source, VM / here)
    return 0


def in_bucket(place: str) -> Path:
    return (
        CLOUD / "bucket" / place.removeprefix("gs://") if place.startswith("gs://") else Path(place)
    )


def storage(verb: str, *places: str) -> int:
    if verb == "ls":
        return 0 if in_bucket(places[0]).exists() else 1
    shutil.copytree(in_bucket(places[0]), in_bucket(places[1]), dirs_exist_ok=True)
    return 0


def main(*words: str) -> int:
    with (CLOUD / "commands.jsonl").open("a") as file:
        print(json.dumps(words), file=file)
    if words[0] == "storage":
        return storage(words[1], *(word for word in words[2:] if not word.startswith("--")))
    _, _, kind, verb, *rest = words
    if verb == "create":
        return create()
    if verb == "describe":
        return describe(kind == "queued-resources")
    if verb == "delete":
        lose_the_vm("")
        return 0
    if verb == "ssh":
        return ssh(rest[rest.index("--command") + 1])
    source, target = [word for word in rest if not word.startswith("--")][:2]
    return scp(source, target)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
