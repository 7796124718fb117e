"""Guards dependencies: every extra resolves to pins that agree with each other."""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT


def requirements() -> dict[str, list[Requirement]]:
    """Return the requirements of each extra, and those of cvpipe under ""."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    parts = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {name: list(parsed(text)) for name, text in parts.items()}


def parsed(text: str) -> Iterator[Requirement]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield Requirement(line)


PINS = {
    canonicalize_name(pin.name): pin
    for pin in parsed((ROOT / "constraints.txt").read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("extra", requirements())
def test_every_requirement_is_pinned_to_a_version_that_it_accepts(extra: str) -> None:
    for requirement in requirements()[extra]:
        (pin,) = PINS[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), requirement


def test_installed_packages_are_compatible_with_each_other() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "check", "--offline", "--python", sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def resolve(*words: str) -> dict[str, str]:
    """Return the versions that uv chooses for setup.cfg, by package."""
    command = "uv pip compile setup.cfg --python-version 3.11 --no-header --no-annotate"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return {canonicalize_name(each.name): str(each.specifier) for each in parsed(done.stdout)}


@pytest.mark.soak
@pytest.mark.parametrize("extra", requirements())
def test_each_extra_resolves_to_the_pinned_versions(extra: str) -> None:
    chosen = ["--extra", extra] if extra else []
    found = resolve("--universal", "--constraint", "constraints.txt", *chosen)
    assert found == {name: str(PINS[name].specifier) for name in found}
    assert found["setuptools"] == str(PINS["setuptools"].specifier)


@pytest.mark.soak
def test_tensorflow_tpu_is_installed_without_the_build_for_cpus(tmp_path: Path) -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = tmp_path / "constraints.txt"
    kept.write_text("".join(line for line in constraints if not line.startswith("tensorflow==")))
    found = resolve(
        *("deploy/tpu_requirements.txt", "--constraint", str(kept)),
        *("--override", "deploy/tpu_overrides.txt", "--python-platform", "x86_64-manylinux_2_31"),
    )
    assert {"tensorflow-tpu", "libtpu", "keras"} <= found.keys() and "tensorflow" not in found
