"""Guards compilation for a TPU that this machine lacks, and `cvpipe preflight`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf

from cvpipe.cli import main
from cvpipe.preflight import tpu
from cvpipe.preflight.lowering import lower
from cvpipe.preflight.program import parse
from cvpipe.preflight.targets import find_target
from cvpipe.preflight.tpu import Compiled, compile_for_tpu, has_compiler
from cvpipe.preflight.tpu_process import EXECUTABLE, STABLEHLO
from cvpipe.tasks import classification

V5E = find_target("v5e-1")
needs_libtpu = pytest.mark.skipif(
    not has_compiler(), reason="needs jax and libtpu: pip install 'cvpipe[preflight]'"
)


def updated(elements: int) -> bytes:
    """A program that changes a variable in place and adds up its square."""
    variable = tf.Variable(tf.ones([elements, 128]))

    def step(x: tf.Tensor) -> tf.Tensor:
        variable.assign_add(x)
        return tf.reduce_sum(tf.matmul(variable, variable, transpose_b=True))

    return lower(step, (tf.TensorSpec([elements, 128], tf.float32),), 1).hlo


@needs_libtpu
def test_a_program_compiles_for_a_chip_once_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = parse(updated(256))
    found = compile_for_tpu(module, V5E, "step", tmp_path)
    assert found.cost and not found.error and set(found.versions) == {"jax", "jaxlib", "libtpu"}
    # The variable and the argument; the variable's new value reuses the variable's memory.
    assert 2 * 4 * 256 * 128 <= found.cost.arguments < 2 * 4 * 256 * 128 + 4096
    assert found.cost.outputs < 4096
    assert found.cost.flops >= 2 * 256 * 256 * 128
    for ending in (STABLEHLO, EXECUTABLE):
        assert (tmp_path / f"step{ending}").stat().st_size > 0
    monkeypatch.setattr(tpu, "_run", None)
    # Another name of the same function gives the same program.
    assert compile_for_tpu(parse(updated(256)), V5E, "step", tmp_path) == found


@needs_libtpu
def test_a_program_that_is_too_large_for_the_chip_is_reported_as_such() -> None:
    def huge(x: tf.Tensor) -> tf.Tensor:
        y = tf.matmul(x, x, transpose_b=True)
        return tf.reduce_sum(tf.sort(tf.matmul(y, y)))

    specs = (tf.TensorSpec([60_000, 128], tf.float32),)
    found = compile_for_tpu(parse(lower(huge, specs, 1).hlo), V5E, "step", None)
    assert found.cost is None and found.too_large
    assert found.needed and found.needed > V5E.chip.memory


def test_the_compilers_errors_are_parsed() -> None:
    new = "total memory required for HLO temporaries (20.51G) exceeds available HBM (15.75G)"
    old = "Ran out of memory in memory space hbm. Used 23.21G of 15.75G hbm."
    for text, giga in ((new, 20.51), (old, 23.21)):
        found = tpu._outcome({"error": text, "seconds": 1.0, "versions": {}})
        assert found.too_large and found.needed == int(giga * 2**30)
    assert not tpu._outcome({"error": "UNIMPLEMENTED", "seconds": 1.0, "versions": {}}).too_large


PARTS = {"train": {"batch", "compiles", "fits", "cost", "roofline", "padding", "largest_batch"}}


@pytest.fixture
def lowered_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvpipe.preflight.preflight.has_compiler", lambda: False)


@pytest.mark.soak
def test_the_command_reports_a_pipeline_and_its_largest_batch(
    lowered_only: None, small_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["preflight", *small_arguments, "--target", "v5e-4", "--json"]
    assert main([*arguments, "--what", "train", "--largest-batch"]) == 0
    found = json.loads(capsys.readouterr().out)
    part = found["parts"]["train"]
    assert found["ok"] and PARTS["train"] <= part.keys()
    # The batch of 32 images is shared by four chips; without libtpu nothing can be compiled.
    assert part["batch"] == 8 and part["compiles"] is None and part["fits"]
    tries = part["largest_batch"]["tries"]
    assert part["largest_batch"]["batch"] % 8 == 0 and tries[-1]["fits"]
    assert 3 <= len(tries) <= 6
    assert tries[-1]["memory"] > 0.9 * found["chip"]["memory"]
    assert found["feed"]["per_core"] > 0 and found["feed"]["host_cores"] == 112
    assert part["roofline"]["images"] == 32


@pytest.mark.soak
def test_a_pipeline_that_is_too_large_for_the_chip_is_refused(
    lowered_only: None, small_arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["preflight", *small_arguments, "--target", "gpu:l4", "--what", "train"]
    large = ["--set", "prepare.size=[2048, 2048]", "--set", "train.batch_size=128"]
    assert main([*arguments, *large]) == 1
    assert "training step: won't fit NVIDIA L4: about" in capsys.readouterr().out


def test_a_pipeline_with_a_host_operation_is_refused_with_its_name(
    small_arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = classification.loss

    def loss(*arguments: object, **options: object) -> dict[str, tf.Tensor]:
        losses = plain(*arguments, **options)
        text = tf.strings.as_string(losses["cross_entropy"])
        return losses | {"host": tf.cast(tf.strings.length(text), tf.float32)}

    monkeypatch.setattr(classification, "loss", loss)
    arguments = ["preflight", *small_arguments, "--target", "v5e-1", "--what", "train"]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "compiles         no" in said
    assert f"training step: AsString (AsString, made in {__file__}:" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--target", "v5e-3"], "--target v5e-3: unknown; did you mean"),
        (["--target", "v5e-1", "--what", "tune"], "--what tune: give train, serve"),
        (
            ["--target", "v5e-4", "--set", "train.batch_size=30"],
            "train.batch_size: 30 can't be shared equally by 4 devices; use a multiple of 4",
        ),
    ],
)
def test_a_wrong_request_is_an_error(
    arguments: list[str],
    message: str,
    small_arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["preflight", *small_arguments, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_outcome_without_a_cost_is_a_failure() -> None:
    assert not Compiled(None, "UNIMPLEMENTED: sort", None, 1.0, {}).too_large
