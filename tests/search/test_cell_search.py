"""Guards the search for cells: its space, its samplers, and the pipeline of the winner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, Interrupted
from cvpipe.models.abstract import without_weights
from cvpipe.search import SAMPLERS
from cvpipe.search.evolution import POPULATION
from cvpipe.search.plan import Plan
from cvpipe.search.space import Choices, check
from cvpipe.search.sweep import sweep
from cvpipe.tasks import load_task
from cvpipe.training.run import Run

Cvpipe = Callable[..., tuple[int, str, str]]
PIPELINE = ROOT / "pipelines/classification/digits_cells.yaml"
SMALL = ("data.limit=100", "train.pictures=false", "train.epochs=1", "model.cells.filters=4")


def train_a_known_function(config: Config, folder: Path) -> None:
    """Write a run without training; its score is the share of separable operations in the cells."""
    run = Run(folder)
    run.start(
        config, {"facts": Facts().to_json(), "examples": {}, "digests": {}, "images": {}}, False
    )
    assert config.model.cells
    blocks = [*config.model.cells.normal, *config.model.cells.reduction]
    operations = [operation for block in blocks for operation in block.operations]
    score = sum(own.startswith("separable") for own in operations) / len(operations)
    run.log_metrics({"step": 1, "epoch": 1, "split": "validation", "accuracy": score})


def plan(sampler: Any, trials: int, *search: str) -> Plan:
    return Plan(PIPELINE, SMALL, search or ("model.cells",), trials, sampler=sampler)


def compared(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trials without the fields that differ from sweep to sweep."""
    return [
        {key: value for key, value in trial.items() if key not in ("runs", "seconds")}
        for trial in result["trials"]
    ]


def test_the_space_has_a_choice_for_each_input_and_operation() -> None:
    space = check(["model.cells"], plan("random", 1).load)
    texts = {own.key: own.texts for own in space if isinstance(own, Choices)}
    assert len(texts) == len(space) == 2 * 3 * 4
    assert texts["model.cells.normal.0.inputs.1"] == ("0", "1")
    assert texts["model.cells.reduction.2.inputs.0"] == ("0", "1", "2", "3")
    assert len(texts["model.cells.reduction.1.operations.0"]) == 6


@pytest.mark.parametrize(
    "search, overrides, message",
    [
        ("model.cells", "model.cells={stages: 2}", "have no blocks to replace"),
        ("model.cell", "seed=1", "write it as key=low:high"),
        ("model", "seed=1", "write it as key=low:high"),
    ],
)
def test_a_wrong_space_is_a_clear_error(search: str, overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--search {search}: .*{message}"):
        Plan(PIPELINE, (overrides,), (search,)).check()


def test_a_key_of_the_cells_is_searched_once() -> None:
    with pytest.raises(ConfigError, match="searched twice"):
        plan("random", 1, "model.cells", "model.cells.normal.0.inputs.0=0,1").check()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"search": ("model.dropout=0:0.5",)}, "only searches choices; write model.dropout as"),
        ({"search": ("model.cells",), "rounds": 2}, "leave --rounds out"),
        ({"folds": 2}, "needs keys to search"),
    ],
)
def test_evolution_and_controller_need_choices_and_a_single_round(
    options: dict[str, Any], message: str
) -> None:
    for sampler in ("evolution", "controller"):
        with pytest.raises(ConfigError, match=f"--sampler {sampler}: .*{message}"):
            Plan(PIPELINE, SMALL, sampler=sampler, **options).check()


@pytest.mark.parametrize("sampler", ["evolution", *soaked("random", "controller")])
def test_a_stopped_search_makes_the_trials_of_one_that_was_not(
    sampler: Any, tmp_path: Path
) -> None:
    trained: list[str] = []

    def stopped_once(config: Config, folder: Path) -> None:
        trained.append(folder.name)
        if len(trained) == 10:
            raise Interrupted("stopped")
        train_a_known_function(config, folder)

    trials = POPULATION + 4
    with pytest.raises(Interrupted):
        sweep(plan(sampler, trials), tmp_path / "stopped", stopped_once)
    result = sweep(plan(sampler, trials), tmp_path / "stopped", stopped_once)
    whole = sweep(plan(sampler, trials), tmp_path / "whole", train_a_known_function)
    assert compared(result) == compared(whole) and len(trained) == trials + 1
    other = SAMPLERS[SAMPLERS.index(sampler) - 1]
    with pytest.raises(ConfigError, match="a sweep with another sampler"):
        sweep(plan(other, trials), tmp_path / "whole", train_a_known_function)


def test_the_winners_pipeline_is_written_and_builds(cvpipe: Cvpipe, tmp_path: Path) -> None:
    folder = tmp_path / "a sweep"
    result = sweep(plan("evolution", POPULATION + 6), folder, train_a_known_function)
    best = result["trials"][0]
    assert best["score"] == max(own["score"] for own in result["trials"])
    written = Path(result["pipeline"])
    assert written == folder / "best.yaml"
    config = config_file.load(written)
    assert config == Run(Path(best["runs"][0])).config and config.name == "digits_cells"
    # The written pipeline holds no defaults.
    values = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert values["model"].keys() == {"backbone", "cells"}
    with without_weights():
        [network] = load_task(config, Facts(tuple("0123456789"))).build(False).values()
    assert network.output["logits"].shape == (None, 10)
    sets = [word for override in SMALL for word in ("--set", override)]
    options = ["--search", "model.cells", "--sampler", "evolution", "--trials", POPULATION + 6]
    code, out, err = cvpipe("sweep", PIPELINE, *sets, *options, "--run", folder)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["trial", "round", "validation", "accuracy", "seconds"]
    assert f"again    cvpipe train '{written}'" in lines
    code, out, err = cvpipe("sweep", PIPELINE, *sets, *options, "--run", folder, "--json")
    assert code == 0 and json.loads(out)["pipeline"] == str(written)
