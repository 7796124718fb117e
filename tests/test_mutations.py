"""Guards the test suite: each deliberate mistake in the package fails a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mutations import MUTATIONS, ROOT, check_baseline, mutated, run_tests


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_applies_and_names_a_test_that_exists(name: str) -> None:
    compile(mutated(MUTATIONS[name]), name, "exec")
    file, _, function = MUTATIONS[name].test.partition("::")
    assert f"\ndef {function.partition('[')[0]}(" in (ROOT / "tests" / file).read_text()


# One mutation of each kind; with CVPIPE_MUTATIONS=all, all are tested, as by tests/mutations.py.
KINDS = (
    *("iou-sign", "order-seed-dropped", "biases-decayed", "last-batch-dropped", "exif-ignored"),
    *("gate-passes-all", "dropout-forgotten", "resize-aliased", "artifact-class-order"),
    "quarantine-unwritten",
)
CHOSEN = MUTATIONS if os.environ.get("CVPIPE_MUTATIONS") == "all" else KINDS


@pytest.mark.soak
def test_the_tests_that_catch_mutations_pass_without_them(tmp_path: Path) -> None:
    check_baseline([MUTATIONS[name] for name in CHOSEN], tmp_path / "copy")


@pytest.mark.soak
@pytest.mark.parametrize("name", CHOSEN)
def test_a_mutation_is_caught(name: str, tmp_path: Path) -> None:
    mutation = MUTATIONS[name]
    assert run_tests(tmp_path / "copy", [mutation.test], mutation), f"survived {mutation.test}"
