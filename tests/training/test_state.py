"""Guards the state of a training: all of it comes back from a checkpoint bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import small_config
from cvpipe.data.facts import Facts
from cvpipe.errors import DataError
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.checkpoints import read_checkpoint, write_checkpoint
from cvpipe.training.state import State

FACTS = Facts(tuple("0123456789"))


def fresh(*overrides: str) -> State:
    """Return the state of the small pipeline before its first step."""
    config = small_config(*overrides)
    return build_state(config, load_task(config, FACTS), examples=1000)[0]


def disturbed_state(*overrides: str) -> State:
    """A state in which no variable has a value that a fresh state could have."""
    state = fresh(*overrides)
    random = np.random.default_rng(0)
    for variable in [
        *state.networks["network"].variables,
        *state.optimizers["optimizer"].variables,
    ]:
        variable.assign(random.uniform(1, 9, variable.shape).astype(variable.dtype))
    state.step.assign(123)
    state.rate_factor.assign(0.3)
    state.best_score, state.evaluations_since_best, state.evaluations_waited, state.converged = (
        0.1 + 0.2,
        4,
        2,
        True,
    )
    return state


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer={kind: adamw}",),
        ("optimizer={kind: adagrad}",),
        ("train.precision=mixed_float16",),
    ],
)
def test_a_saved_state_is_restored_bit_for_bit(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    before = disturbed_state(*overrides).arrays()
    write_checkpoint(tmp_path / "last.npz", before)
    state = fresh(*overrides)
    state.restore(read_checkpoint(tmp_path / "last.npz"), tmp_path / "last.npz")
    after = state.arrays()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert value.tobytes() == after[name].tobytes(), name


def test_a_state_holds_moving_statistics_momentum_averages_and_the_state_of_dropout() -> None:
    names = " ".join(disturbed_state().arrays())
    for part in (
        "moving_mean",
        "momentum",
        "average",
        "seed_generator_state",
        "optimizer/iteration",
    ):
        assert part in names


def test_building_again_gives_the_same_names_and_bits() -> None:
    first = fresh()
    second = fresh()
    assert {k: v.tobytes() for k, v in first.arrays().items()} == {
        k: v.tobytes() for k, v in second.arrays().items()
    }


def test_another_seed_gives_other_weights() -> None:
    first = fresh()
    second = fresh("seed=1")
    kernels = [
        name
        for name in first.arrays()
        if name.endswith("conv1/kernel") and name.startswith("networks/network/")
    ]
    assert kernels
    for name in kernels:
        assert (first.arrays()[name] != second.arrays()[name]).any()


@pytest.mark.parametrize(
    "overrides, what",
    [(("model.backbone=resnet32",), "lacks"), (("model.width=0.5",), "has shape")],
)
def test_a_checkpoint_of_another_network_is_refused(overrides: tuple[str, ...], what: str) -> None:
    state = fresh(*overrides)
    with pytest.raises(DataError, match=f"last.npz: .*{what}"):
        state.restore(disturbed_state().arrays(), Path("last.npz"))


def test_averaged_weights_are_used_and_the_trained_ones_restored() -> None:
    state = disturbed_state()
    before = state.arrays()
    name = next(name for name in before if name.endswith(("stem/kernel", "conv1/kernel")))
    network, optimizer = state.networks["network"], state.optimizers["optimizer"]
    kernel = next(v for v in network.variables if f"networks/network/{v.path}" == name)
    average = next(
        v
        for v in optimizer.variables
        if "average" in v.path and kernel.path.replace("/", "_") in v.path
    )
    with state.averaged_weights():
        np.testing.assert_array_equal(kernel.numpy(), average.numpy())
    after = state.arrays()
    assert {k: v.tobytes() for k, v in before.items()} == {k: v.tobytes() for k, v in after.items()}
