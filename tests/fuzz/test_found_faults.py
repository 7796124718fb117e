"""Guards what reads bytes of strangers, by the fuzzer's seeds and the faults that it found."""

from __future__ import annotations

import pytest

import fuzz_targets

FOUND = [(name, file) for name in fuzz_targets.TARGETS for file in fuzz_targets.found(name)]


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_seeds_show_no_fault(name: str) -> None:
    for content in fuzz_targets.TARGETS[name].seeds():
        fuzz_targets.TARGETS[name].check(content)


@pytest.mark.parametrize("name, file", FOUND, ids=[file.name for _, file in FOUND])
def test_faults_that_were_found_are_mended(name: str, file: fuzz_targets.Path) -> None:
    fuzz_targets.TARGETS[name].check(file.read_bytes())
