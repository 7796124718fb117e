"""Guards `cvpipe info`: it prints facts about the machine and its storage, but no secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from cvpipe import __version__
from cvpipe.commands.info import KEY_VARIABLE, cpu_facts

Cvpipe = Callable[..., tuple[int, str, str]]


def test_versions_processor_and_memory_are_those_of_this_machine(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("info", "--json")
    result = json.loads(out)
    assert code == 0 and result["cvpipe"] == __version__
    assert result["packages"]["tensorflow"] == tf.__version__
    assert 0 < result["cpu"]["usable_cores"] <= result["cpu"]["cores"]
    assert 0 < result["memory"]["free"] <= result["memory"]["total"]
    seen = [device.device_type for device in tf.config.list_physical_devices()]
    assert [device["kind"] for device in result["devices"]] == [k for k in seen if k != "CPU"]


def test_each_line_begins_with_the_name_of_its_fact(cvpipe: Cvpipe) -> None:
    _, out, _ = cvpipe("info")
    first = [line.split()[0] for line in out.splitlines()]
    assert first[:2] == ["cvpipe", "python"]
    assert {"tensorflow", "keras", "processor", "instructions", "memory", "devices"} <= set(first)


def test_only_variables_that_change_a_run_are_printed(
    cvpipe: Cvpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do not print me")
    monkeypatch.setenv("XLA_FLAGS", "")
    _, out, _ = cvpipe("info")
    assert "do not print me" not in out and "XLA_FLAGS" in out


def test_files_in_folders_are_counted_without_changes(cvpipe: Cvpipe, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    missing = tmp_path / "missing"
    _, out, _ = cvpipe("info", str(tmp_path), str(missing), "--json")
    assert json.loads(out)["storage"] == [
        {"place": str(tmp_path), "writable": True, "files": 1},
        {"place": str(missing), "writable": False, "error": f"{missing}: no such folder"},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    _, out, _ = cvpipe("info", str(tmp_path))
    assert "1 files, writable" in out


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, None),
        ("key.json", "GOOGLE_APPLICATION_CREDENTIALS, a file that doesn't exist"),
        ("real.json", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_the_location_of_credentials_is_printed_but_not_their_content(
    cvpipe: Cvpipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    found: str | None,
) -> None:
    (tmp_path / "real.json").write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if variable:
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / variable))
    _, out, _ = cvpipe("info", "--json")
    assert json.loads(out)["credentials"] == found and "secret" not in out


def test_instruction_sets_are_read_from_the_kernels_list() -> None:
    text = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: fpu avx avx2 avx512f fma\n\n"
    found = cpu_facts(text)
    assert found["model"] == "A CPU @ 2 GHz"
    assert found["instructions"] == ["avx", "avx2", "fma", "avx512f"]
    assert cpu_facts("Features\t: fp asimd sve\n")["instructions"] == ["asimd", "sve"]
