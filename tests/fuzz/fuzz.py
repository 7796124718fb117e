"""Looks for bytes that show a fault, guided by the lines that they reach in cvpipe.

    python tests/fuzz/fuzz.py --runs 20000 [--only TARGET] [--corpus DIR] [--found DIR]

Each target runs in a process of its own, by libFuzzer through atheris (`pip install .[fuzz]`). It
starts from the seeds and goes on after a fault; one input is kept of each place where one shows, in
the folder --found. The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "serving"), str(TESTS / "fuzz")]
NAMES = ("image", "body", "request", "annotations", "pipeline")
MAX_BYTES = {"image": 2048, "body": 2048, "request": 2048, "annotations": 2048, "pipeline": 600}
HANGS_SECONDS = 60
"""Of wall time; the targets themselves allow a second of CPU time."""


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=20_000, help="inputs of each target")
    parser.add_argument("--only", choices=NAMES, help="one target, instead of all")
    parser.add_argument("--corpus", type=Path, help="inputs that reached something new, kept here")
    parser.add_argument("--found", type=Path, default=Path("fuzz_found"), help="faults")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        fuzz(given.only, given.corpus, given.found, given.runs, given.seed)
    faults = 0
    for name in [given.only] if given.only else NAMES:
        with tempfile.TemporaryDirectory() as aside:
            corpus = (given.corpus or Path(aside)) / name
            faults += run_apart(name, corpus, given.found / name, given.runs, given.seed)
    return 1 if faults else 0


def run_apart(name: str, corpus: Path, found: Path, runs: int, seed: int) -> int:
    """Run a target in a process of its own; return the number of its faults."""
    command = [sys.executable, __file__, "--here", "--only", name, "--runs", str(runs)]
    command += ["--corpus", str(corpus), "--found", str(found), "--seed", str(seed)]
    began = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    faults = sorted(found.glob("*")) if found.is_dir() else []
    took = time.monotonic() - began
    ended = "" if code == 0 else f", ended early with the exit code {code}"
    print(f"{name}: up to {runs:,} inputs in {took:.0f} s{ended}, {len(faults)} faults", flush=True)
    for file in faults:
        print(f"  {file}")
    return len(faults) or int(code != 0)


def fuzz(name: str, corpus: Path, found: Path, runs: int, seed: int) -> None:
    """Run a target in this process, which then ends."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import atheris
    import tensorflow as tf  # noqa: F401 — before anything is instrumented

    with atheris.instrument_imports(include=["cvpipe", "yaml"]):
        import fuzz_targets

    corpus.mkdir(parents=True, exist_ok=True)
    seeds = [*fuzz_targets.TARGETS[name].seeds(), *map(Path.read_bytes, fuzz_targets.found(name))]
    for content in seeds:
        (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)
    words = {word for content in seeds for word in re.findall(rb"[A-Za-z_]{3,20}", content)}
    dictionary = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.dict"
    dictionary.write_bytes(b"".join(b'"%s"\n' % word for word in sorted(words)[:500]))

    # The first input waits for TensorFlow's graphs, which would be taken for a fault.
    with suppress(Exception):
        fuzz_targets.TARGETS[name].check(seeds[0])

    def one_input(content: bytes) -> None:
        try:
            fuzz_targets.check(name, content)
        except Exception as error:
            keep(content, error, found)

    options = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={MAX_BYTES[name]}",
        f"-timeout={HANGS_SECONDS}",
        f"-dict={dictionary}",
        f"-artifact_prefix={found}/",
        "-rss_limit_mb=0",
        "-print_final_stats=1",
        "-verbosity=1",
        "-reload=0",
    ]
    found.mkdir(parents=True, exist_ok=True)
    # Warnings about data would fill the console.
    import logging

    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def keep(content: bytes, error: Exception, found: Path) -> None:
    """Write an input down, unless another with the same fault was."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
    if type(error).__name__ == "Fault":
        where += "-" + re.sub("[^a-z]+", "-", str(error).lower())[:40]
    file = found / where
    if not file.exists():
        file.write_bytes(content)
        file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    sys.exit(main())
