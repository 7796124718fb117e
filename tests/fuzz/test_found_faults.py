"""Guards what reads bytes of strangers, by the fuzzer's seeds and the faults that it found."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

import fuzz_targets

FOUND = [(name, file) for name in fuzz_targets.TARGETS for file in fuzz_targets.found(name)]


def check(name: str, content: bytes) -> None:
    # To make a graph takes longer than to decode all images here.
    tf.config.run_functions_eagerly(name == "image")
    try:
        fuzz_targets.TARGETS[name].check(content)
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_seeds_show_no_fault(name: str) -> None:
    for content in fuzz_targets.TARGETS[name].seeds():
        check(name, content)


@pytest.mark.parametrize("name, file", FOUND, ids=[file.name for _, file in FOUND])
def test_faults_that_were_found_are_mended(name: str, file: Path) -> None:
    check(name, file.read_bytes())
