"""Guards batches that are too large for the training split or for the free memory."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
import tensorflow as tf

from conftest import ROOT, small_config
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError
from cvpipe.tasks import load_task
from cvpipe.training.memory import (
    bytes_of_outputs,
    check_memory,
    check_variables,
    free_memory,
    warn_of_repetition,
)

IMAGE = keras.Input((8, 8, 3))
NARROW = keras.layers.Conv2D(2, 1, name="narrow")
# A layer that is used twice has two outputs in memory.
NETWORK = keras.Model(IMAGE, keras.layers.add([NARROW(IMAGE), NARROW(IMAGE)]))
BYTES = 3 * 8 * 8 * 2 * 4


def checked(free: int | None, *overrides: str, networks: int = 1) -> None:
    config = small_config("prepare.size=[8, 8]", "prepare.channels=3", *overrides)
    check_memory(config, [NETWORK] * networks, tf.distribute.get_strategy(), free)


def test_the_outputs_of_all_layers_are_counted() -> None:
    assert bytes_of_outputs(NETWORK) == BYTES
    halves = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_bfloat16"), keras.layers.Flatten()]
    )
    assert bytes_of_outputs(halves) == 3 * 2 + 3 * 4


def test_a_batch_that_cant_fit_is_refused_with_one_that_may() -> None:
    with pytest.raises(ConfigError) as error:
        checked(1_000_000, "train.batch_size=5000")
    said = str(error.value)
    assert said.startswith("train.batch_size: a step on 5,000 images of 8×8×3 takes about 0.0 GB")
    may_fit = int(said.partition("a smaller batch (")[2].partition(" ")[0])
    assert 0 < may_fit < 1_000_000 / BYTES
    checked(1_000_000, f"train.batch_size={may_fit}")


def test_a_batch_that_may_not_fit_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    # Free are two thirds of the estimate; the step certainly needs half of the estimate.
    image = 8 * 8 * 3 * 4
    checked(int(0.67 * 100 * (4 * image + BYTES)), "train.batch_size=100")
    assert "if the training is killed, use a smaller batch" in caplog.text


@pytest.mark.parametrize("free", [10**9, None])
def test_a_batch_that_fits_gets_no_warning(
    free: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    checked(free, "train.batch_size=32")
    assert not caplog.records


def test_parts_of_a_step_take_less_and_several_networks_more() -> None:
    free = 100 * 8 * 8 * 3 * 4 * 5
    checked(free, "train.batch_size=100", "train.accumulate=50", networks=8)
    with pytest.raises(ConfigError, match="may fit"):
        checked(free, "train.batch_size=100", networks=8)


def check_weights(config: Config, free: int, classes: tuple[str, ...]) -> None:
    check_variables(config, load_task(config, Facts(classes)), tf.distribute.get_strategy(), free)


@pytest.mark.parametrize(
    "copies, overrides",
    [
        (2, ["optimizer={kind: sgd, momentum: 0}"]),
        (3, ["optimizer={kind: sgd, momentum: 0.9}"]),
        (5, ["optimizer={kind: adam}", "train.ema=0.9"]),
    ],
)
def test_weights_gradients_moments_and_averages_are_counted(
    copies: int, overrides: list[str]
) -> None:
    config = small_config(
        "model={backbone: linear, norm: none}", "prepare.size=[8, 8]", "train.ema=null", *overrides
    )
    needed, classes = 4 * copies * (64 * 10 + 10), tuple("0123456789")
    check_weights(config, needed, classes)
    with pytest.raises(ConfigError, match="The largest weight, logits/kernel, has the shape 64×10"):
        check_weights(config, needed - 1, classes)


def test_a_memory_bank_that_cant_fit_is_refused_before_it_is_allocated() -> None:
    pipeline = ROOT / "pipelines/anomaly/scratched_digits.yaml"
    config = config_file.load(pipeline, ["model.head={kind: patchcore, bank: 1_000_000_000}"])
    with pytest.raises(ConfigError, match="head_memory/bank, has the shape 1000000000×"):
        check_weights(config, 10**11, ("normal",))


def test_a_batch_larger_than_the_training_split_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = small_config("train.batch_size=32")
    warn_of_repetition(config, 32)
    assert not caplog.records
    warn_of_repetition(config, 20)
    assert "train.batch_size: 32 exceeds the training split of 20 images" in caplog.text


def written(folder: Path, **files: str) -> Path:
    """A folder with files; two underscores in a name stand for a slash."""
    for name, text in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


MACHINE = "MemTotal:       32 kB\nMemAvailable:       16 kB\n"


def test_free_memory_is_that_of_the_machine_or_less_in_a_container(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    written(tmp_path, proc__meminfo=MACHINE)
    assert free_memory(tmp_path) == 16 * 1024
    groups = written(tmp_path / "sys/fs/cgroup").resolve()
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.current").write_text("5000\n")
    assert free_memory(tmp_path) == 16 * 1024
    (groups / "memory.max").write_text("9000\n")
    (groups / "memory.stat").write_text("anon 4000\ninactive_file 700\n")
    assert free_memory(tmp_path) == 9000 - 5000 + 700


def test_free_memory_is_read_from_cgroups_v1(tmp_path: Path) -> None:
    written(tmp_path, proc__meminfo=MACHINE)
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    for name, value in {
        "memory.limit_in_bytes": "8000",
        "memory.usage_in_bytes": "3000",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 100",
    }.items():
        (group / name).write_text(value)
    assert free_memory(tmp_path) == 8000 - 3000 + 100
    (group / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert free_memory(tmp_path) == 16 * 1024


def test_free_memory_of_this_machine_is_known() -> None:
    free = free_memory()
    assert free is not None and free > 0
