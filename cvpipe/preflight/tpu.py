"""Compilation for a TPU by libtpu, on a machine without a TPU."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tensorflow.compiler.xla.service import hlo_pb2

from cvpipe.json_files import write_json
from cvpipe.preflight import tpu_process
from cvpipe.preflight.estimate import Cost
from cvpipe.preflight.program import without_copies
from cvpipe.preflight.targets import Target

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Compiled(NamedTuple):
    """The outcome of one compilation."""

    cost: Cost | None
    """None if the compilation failed."""
    error: str
    """The compiler's message; empty if the compilation succeeded."""
    needed: int | None
    """Bytes that the program needs if it doesn't fit; None if it fits, or if the compiler doesn't
    report them.
    """
    seconds: float
    versions: dict[str, str]

    @property
    def too_large(self) -> bool:
        """True if the program compiles but doesn't fit into the chip's memory."""
        return self.needed is not None


def has_compiler() -> bool:
    """Return True if the extra [preflight] is installed."""
    return all(importlib.util.find_spec(name) for name in ("jax", "jaxlib", "libtpu"))


def compile_for_tpu(
    module: hlo_pb2.HloModuleProto, target: Target, name: str, save: Path | None
) -> Compiled:
    """Compile a program for one chip of a target.

    Args:
        module: the program.
        target: the chips.
        name: name of the saved files, without suffix.
        save: folder for StableHLO, executable and costs; None to save nothing. A program whose
            files are in the folder isn't compiled again.
    """
    hlo = without_copies(module)
    digest = _digest(hlo, target)
    with _folder(save) as folder:
        report = folder / f"{name}.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(report.read_text(encoding="utf-8"))
            if known["digest"] == digest and known["versions"] == tpu_process.versions():
                return _outcome(known)
        source = folder / f"{name}.hlo"
        source.write_bytes(hlo)
        result = _run(source, target, folder / name)
        source.unlink()
        if "device" in result:
            write_json(report, {"digest": digest, "target": target.name, **result})
    return _outcome(result)


@contextlib.contextmanager
def _folder(save: Path | None) -> Iterator[Path]:
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        yield save
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _digest(hlo: bytes, target: Target) -> str:
    """Return a fingerprint of a program. It ignores names, which differ each time TensorFlow lowers
    the same graph.
    """
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    module.ClearField("name")
    module.ClearField("entry_computation_name")
    for computation in module.computations:
        computation.ClearField("name")
        for own in computation.instructions:
            own.ClearField("metadata")
            own.ClearField("name")
    module.ClearField("id")
    whole = module.SerializeToString(deterministic=True) + target.chip.name.encode()
    return hashlib.sha256(whole).hexdigest()


def _run(source: Path, target: Target, to: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", tpu_process.__name__, source, str(target.topology), to],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TPU_ACCELERATOR_TYPE": target.accelerator_type},
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = "\n".join(done.stderr.splitlines()[-20:])
        return {
            "error": f"the compiler ended with code {done.returncode}: {said}",
            "seconds": 0.0,
            "versions": tpu_process.versions(),
        }
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _outcome(result: dict[str, Any]) -> Compiled:
    error = result.get("error", "")
    cost = None if error else Cost(**{name: result[name] for name in Cost._fields})
    return Compiled(cost, error, _needed(error), result["seconds"], result["versions"])


def _needed(error: str) -> int | None:
    """Return the number of bytes that a program needs, parsed from the compiler's error."""
    size = r"([\d.]+)([KMGT]?)"
    found = re.search(rf"(?:Used {size} of|\({size}\) exceeds) ", error)
    if found is None:
        return None
    number, unit = found[1] or found[3], found[2] or found[4] or ""
    return int(float(number) * UNITS[unit])
