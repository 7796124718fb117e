"""`cvpipe info`: facts about this machine and its access to storage, for bug reports."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from cvpipe import __version__
from cvpipe.commands.command import add_command, add_examples, aligned, print_result
from cvpipe.errors import DataError
from cvpipe.storage import file_names, is_bucket

# Packages whose version matters, and optional packages that add a command or a format.
PACKAGES = (
    *("tensorflow", "keras", "numpy", "protobuf", "pydantic", "tensorflow-datasets"),
    *("tf-models-official", "pillow", "libtpu", "ai-edge-litert", "onnxruntime", "openvino"),
    *("optuna", "ray"),
)
# Instruction sets that determine the choice of kernels.
INSTRUCTIONS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "sve", "bf16"),
)
# Environment variables that affect TensorFlow and cvpipe; other variables aren't printed.
VARIABLES = (
    *("TF_CONFIG", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "TF_NUM_INTRAOP_THREADS"),
    *("TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TPU_NAME"),
)
# Google's libraries look for credentials in these places, in this order.
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
GCLOUD_KEY = Path(".config") / "gcloud" / "application_default_credentials.json"
_GIB = 2**30


def add(commands: Any) -> None:
    """Declare the command."""
    text = "show versions, processors, memory and access to storage, for bug reports"
    parser = add_command(commands, "info", info, text)
    add_examples(
        parser, "cvpipe info", "cvpipe info --json > info.json", "cvpipe info gs://bucket/data runs"
    )
    parser.add_argument(
        "places",
        metavar="FOLDER|gs://…",
        nargs="*",
        help="folders and buckets whose files are counted; nothing is written there",
    )


def info(options: argparse.Namespace) -> int:
    """Print facts about the machine."""
    result = machine_facts(options.places)
    print_result(options, result, aligned(_rows(result)))
    return 0


def machine_facts(places: Sequence[str] = ()) -> dict[str, Any]:
    """Return versions, processors, memory, devices, environment variables and access to storage.

    Args:
        places: folders and addresses of buckets to list.
    """
    from cvpipe.runtime import quiet_tensorflow

    # Read the variables before the next call, which sets some of them.
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    quiet_tensorflow()
    cpu = Path("/proc/cpuinfo")
    return {
        "cvpipe": __version__,
        "python": platform.python_version(),
        "packages": _versions(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_facts(cpu.read_text(encoding="utf-8") if cpu.is_file() else ""),
        "memory": _memory(),
        "devices": _devices(),
        "credentials": _credentials(),
        "storage": [storage_facts(place) for place in places],
        "environment": environment,
    }


def cpu_facts(text: str) -> dict[str, Any]:
    """Return the processor's model, cores and instruction sets, given /proc/cpuinfo."""
    entries: dict[str, str] = dict(re.findall(r"^(\w[\w ]*?)\s*:\s*(.*)$", text, re.M))
    known = set(entries.get("flags", entries.get("Features", "")).split())
    return {
        "model": entries.get("model name", platform.processor() or "unknown"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "instructions": [name for name in INSTRUCTIONS if name in known],
    }


def storage_facts(place: str) -> dict[str, Any]:
    """Return "place", "files" (the number of files) or "error", and for a folder "writable"."""
    facts: dict[str, Any] = {"place": place}
    bucket = is_bucket(place)
    if not bucket:
        facts["writable"] = os.access(place, os.W_OK)
    try:
        if not bucket and not Path(place).is_dir():
            raise DataError(f"{place}: no such folder")
        facts["files"] = len(file_names(place))
        if bucket and not facts["files"]:
            raise DataError(
                f"{place}: nothing is there, or access is denied; check the address and"
                " the credentials"
            )
    except DataError as error:
        facts["error"] = str(error)
    return facts


def _credentials() -> str | None:
    """Return where the credentials for buckets are, without reading them."""
    if file := os.environ.get(KEY_VARIABLE):
        return f"{KEY_VARIABLE}" + ("" if Path(file).is_file() else ", a file that doesn't exist")
    return f"~/{GCLOUD_KEY}" if (Path.home() / GCLOUD_KEY).is_file() else None


def _versions() -> dict[str, str]:
    """Return the versions of installed packages."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _memory() -> dict[str, float]:
    """Return the sizes of the memory and of the current disk in GiB."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_AVPHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    values = {
        "total": pages * size / _GIB,
        "free": free * size / _GIB,
        "disk_free": shutil.disk_usage(".").free / _GIB,
    }
    if text.isdecimal():
        # A container may have less memory than its machine.
        values["container"] = int(text) / _GIB
    return {name: round(value, 1) for name, value in values.items()}


def _devices() -> list[dict[str, Any]]:
    """Return the GPUs and TPUs that TensorFlow sees."""
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices():
        if device.device_type == "CPU":
            continue
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", device.name)
        capability = details.get("compute_capability")
        entry = {"kind": device.device_type, "name": name}
        if capability:
            entry["compute_capability"] = ".".join(map(str, capability))
        found.append(entry)
    return found


def _access(facts: Mapping[str, Any]) -> str:
    """Describe the access to a folder or bucket."""
    if "error" in facts:
        return str(facts["error"])
    writable = {True: ", writable", False: ", read-only", None: ""}[facts.get("writable")]
    return f"{facts['files']:,} files{writable}"


def _rows(result: Mapping[str, Any]) -> list[list[str]]:
    cpu, memory = result["cpu"], result["memory"]
    of_container = f", the container's {memory['container']} GiB" if "container" in memory else ""
    devices = [
        f"{device['kind']} {device['name']}"
        + (f", compute capability {device['compute_capability']}" if len(device) > 2 else "")
        for device in result["devices"]
    ]
    return [
        ["cvpipe", result["cvpipe"]],
        ["python", f"{result['python']} ({sys.executable})"],
        *([name, version] for name, version in result["packages"].items()),
        ["system", result["system"]],
        ["processor", f"{cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores usable"],
        ["instructions", " ".join(cpu["instructions"]) or "unknown"],
        [
            "memory",
            f"{memory['total']} GiB, {memory['free']} free{of_container};"
            f" disk {memory['disk_free']} GiB free",
        ],
        ["devices", "; ".join(devices) or "no GPU or TPU that TensorFlow sees"],
        ["credentials", result["credentials"] or "none for gs://"],
        *([access["place"], _access(access)] for access in result["storage"]),
        *([name, value] for name, value in result["environment"].items()),
    ]
