"""Tests of the settings of a server."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from cvpipe.cli import main
from cvpipe.errors import ConfigError
from cvpipe.serving.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threads", 0, "--threads: must be at least 1"),
        ("max_connections", 0, "--max-connections: must be at least 1"),
        ("max_connections", 2**31, "--max-connections: must be at most 2147483647"),
        ("max_body_bytes", 0, "--max-body: must be at least 1"),
        ("max_held_bytes", 0, "max_held_bytes: must be at least 1"),
        ("wait_micros", -1, "--wait-micros: must be at least 0"),
        ("poll_seconds", 0, "--poll: must be at least 0.001"),
        ("poll_seconds", math.inf, "--poll: must be at most 1000000000"),
        ("timeout", -1.0, "--timeout: must be at least 0.001"),
        ("timeout", math.nan, "--timeout: must be at least 0.001"),
        ("drain", -1.0, "--drain: must be at least 0"),
        ("grace", math.nan, "--grace: must be at least 0"),
        ("header_seconds", 0.0, "header_seconds: must be at least 0.001"),
        ("grpc_port", 99999, "--grpc-port: must be at most 65535"),
        ("grpc_port", -1, "--grpc-port: must be at least 0"),
    ],
)
def test_a_number_out_of_range_names_its_option(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_every_number_has_a_range() -> None:
    numbers = [each.name for each in fields(Settings) if each.type in ("int", "float")]
    assert "timeout" in numbers
    for name in numbers:
        with pytest.raises(ConfigError, match="must be at least"):
            Settings(**{name: -1})  # type: ignore[arg-type]


def test_buckets_pad_every_batch() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(buckets=(1, 8), max_batch=32)
    assert str(caught.value) == (
        "--buckets: batches of more than 8 images would not be padded; add 32, or pass"
        " --max-batch 8"
    )
    assert Settings(buckets=(1, 8), max_batch=8).buckets == (1, 8)
    assert Settings(buckets=(1, 64), max_batch=32).buckets == (1, 64)


@pytest.mark.parametrize("option", ["--threads=0", "--grace=-1", "--max-body=0", "--poll=nan"])
def test_the_command_refuses_a_number_out_of_range(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path), option]) == 2
    assert f"{option.partition('=')[0]}: must be at least" in capsys.readouterr().err
