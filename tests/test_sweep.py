"""Guards sweeps: drawn values, scores of trials, and the continuation of a stopped sweep."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from conftest import DIGITS
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, Interrupted, UserError
from cvpipe.search.draw import Study, narrowed
from cvpipe.search.plan import Plan
from cvpipe.search.space import Choices, Range, check, parse
from cvpipe.search.sweep import sweep
from cvpipe.search.trial import train_in_a_process
from cvpipe.training.run import Run
from cvpipe.training.train import train

Cvpipe = Callable[..., tuple[int, str, str]]
TINY = (
    "prepare.size=[32, 32]",
    "model.backbone=lenet5",
    "augment=[]",
    "data.limit=100",
    "train.epochs=2",
    "train.pictures=false",
    "schedule={kind: constant}",
    "optimizer.learning_rate=0.02",
)
BEST_RATE = 0.03


def train_a_known_function(config: Config, folder: Path) -> None:
    """Write a run without training. Its score is highest at a learning rate of 0.03, and increases
    as the dropout decreases.
    """
    run = Run(folder)
    run.start(
        config, {"facts": Facts().to_json(), "examples": {}, "digests": {}, "images": {}}, False
    )
    rate = config.optimizer.learning_rate  # type: ignore[union-attr]
    score = 1 - abs(math.log10(rate / BEST_RATE)) / 10 - config.model.dropout / 10
    for epoch, share in enumerate((0.5, 1.0, 0.9)):
        run.log_metrics({"step": epoch, "epoch": epoch + 1, "split": "train", "accuracy": 2.0})
        run.log_metrics(
            {"step": epoch, "epoch": epoch + 1, "split": "validation", "accuracy": score * share}
        )


def plan(*search: str, overrides: Sequence[str] = TINY, **options: Any) -> Plan:
    return Plan(DIGITS, tuple(overrides), search, **options)


def load(overrides: Sequence[str]) -> Config:
    return config_file.load(DIGITS, overrides)


@pytest.mark.parametrize(
    "text, dimension",
    [
        ("a.b=1e-4:1e-1:log", Range("a.b", 1e-4, 1e-1, log=True)),
        ("a=.5:2.", Range("a", 0.5, 2.0)),
        ("a=-1:3:linear", Range("a", -1.0, 3.0)),
        ("a=1,2", Choices("a", ("1", "2"))),
        ("a=[16, 16],[32, 32]", Choices("a", ("[16, 16]", "[32, 32]"))),
        (
            "a={kind: cosine, final: 0.1}, {kind: constant}",
            Choices("a", ("{kind: cosine, final: 0.1}", "{kind: constant}")),
        ),
        ("a='x, y',null", Choices("a", ("'x, y'", "null"))),
    ],
)
def test_a_search_is_a_range_or_a_yaml_list(text: str, dimension: Any) -> None:
    assert parse(text) == dimension


@pytest.mark.parametrize(
    "text, message",
    [
        ("a", "write it as key=low:high"),
        ("a=", "write it as key=low:high"),
        ("=1:2", "write it as key=low:high"),
        ("a=5", "write it as key=low:high"),
        ("a=5,5", "write it as key=low:high"),
        ("a=1:2:lgo", "write it as key=low:high"),
        ("a=[1,2", "write it as key=low:high"),
        ("a=1,2]: [3", "write it as key=low:high"),
        ("a=2:1", "the first number must be below the second"),
        ("a=0:1e999", "the first number must be below the second"),
        ("a=0:1:log", "must begin above 0"),
    ],
)
def test_an_invalid_search_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--search .*{message}"):
        parse(text)


def test_all_bounds_and_choices_are_validated_before_training() -> None:
    space = check(
        [
            "train.batch_size=16:64:log",
            "model.dropout=0:0.5",
            "optimizer.learning_rate=1:2",
            "augment.0.padding=1,2",
        ],
        load,
    )
    assert [getattr(dimension, "whole", None) for dimension in space] == [True, False, False, None]
    for text, message in {
        "model.dropout=0:1": "--set model.dropout=1: 'model.dropout' should be less than 1",
        "optimizer.learning_rat=1:2": (
            "unknown key 'optimizer.learning_rat'; did you mean 'learning_rate'"
        ),
        "train.batch_size=1.5:8": "'train.batch_size' should be an integer",
        "model.backbone=resnet20,resnet21": "unknown backbone 'resnet21'",
    }.items():
        with pytest.raises(ConfigError) as refused:
            check([text], load)
        assert f"--search {text}: " in str(refused.value) and message in str(refused.value)
    with pytest.raises(ConfigError, match="searched twice"):
        check(["model.dropout=0:0.5", "model.dropout=0,0.5"], load)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "nothing to compare"),
        ({"trials": 0, "folds": 2}, "--trials 0"),
        ({"rounds": 0, "folds": 2}, "--rounds 0"),
        ({"folds": 1}, "--folds 1"),
        ({"folds": 2, "overrides": ("train.epohs=1",)}, "unknown key 'train.epohs'"),
    ],
)
def test_an_invalid_plan_creates_no_folder(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(plan(**options), tmp_path / "sweep", train_a_known_function)
    assert not list(tmp_path.iterdir())


def test_without_a_validation_split_nothing_can_be_compared(tmp_path: Path) -> None:
    without = plan("model.dropout=0,0.1", overrides=[*TINY, "data.validation=0"])
    with pytest.raises(ConfigError, match="raise data.validation, or cross-validate"):
        sweep(without, tmp_path / "sweep", train_a_known_function)


def draws(seed: int, space: Sequence[Any], count: int) -> list[dict[str, Any]]:
    study, values = Study(seed), []
    for _ in range(count):
        drawn = study.ask(space)
        assert drawn
        study.tell(drawn[0], 0.0)
        values.append(drawn[1])
    return values


def test_the_seed_decides_the_drawn_values() -> None:
    space = [Range("a", 1e-4, 1.0, log=True), Range("b", 0.0, 1.0), Choices("c", ("x", "y"))]
    assert draws(3, space, 5) == draws(3, space, 5) != draws(4, space, 5)


def test_values_are_uniform_in_linear_ranges_and_log_uniform_in_logarithmic_ranges() -> None:
    values = draws(
        0,
        [Range("a", 1e-4, 1.0, log=True), Range("b", 0.0, 1.0), Range("n", 1, 3, whole=True)],
        400,
    )
    decades = np.histogram([math.log10(value["a"]) for value in values], [-4, -3, -2, -1, 0])[0]
    quarters = np.histogram([value["b"] for value in values], [0, 0.25, 0.5, 0.75, 1])[0]
    assert decades.sum() == quarters.sum() == 400
    assert decades.min() > 70 and quarters.min() > 70
    assert {type(value["n"]) for value in values} == {int} and {value["n"] for value in values} == {
        1,
        2,
        3,
    }


def test_choices_are_tried_in_every_combination_once() -> None:
    study, space = Study(0), [Choices("a", ("1", "2", "3")), Range("b", 1, 2, whole=True)]
    combinations = []
    while drawn := study.ask(space):
        study.tell(drawn[0], 0.0)
        combinations.append(tuple(drawn[1].values()))
    assert sorted(combinations) == [(a, b) for a in "123" for b in (1, 2)]


@pytest.mark.parametrize("whole, log", [(False, False), (False, True), (True, False), (True, True)])
def test_a_narrowed_range_contains_the_best_values_and_is_within_the_full_range(
    whole: bool, log: bool
) -> None:
    full = Range("a", 2.0, 2000.0, log, whole)
    best = [20.0, 50.0] if log else [900.0, 1100.0]
    finer = full.narrowed(best, 10)
    assert full.low < finer.low < best[0] and best[1] < finer.high < full.high
    at_the_ends = full.narrowed([2.0, 2000.0], 10)
    assert full.low <= at_the_ends.low and at_the_ends.high <= full.high
    np.testing.assert_allclose([at_the_ends.low, at_the_ends.high], [full.low, full.high])
    if whole:
        assert float(finer.low).is_integer() and float(finer.high).is_integer()
    if log:
        np.testing.assert_allclose(20 / finer.low, finer.high / 50, rtol=0.1)
    else:
        np.testing.assert_allclose(900 - finer.low, finer.high - 1100, rtol=0.1)


def test_only_the_best_quarter_of_successful_trials_narrows_the_ranges() -> None:
    ranked = [{"values": {"a": float(a), "c": "x"}, "round": 1, "score": 1.0 - a} for a in range(8)]
    failed = {"values": {"a": 100.0, "c": "x"}, "round": 1, "score": None}
    space = (Range("a", 0.0, 100.0), Choices("c", ("x", "y")))
    assert narrowed(space, [*ranked, failed], 10) == (Range("a", 0.0, 11.0), space[1])
    assert narrowed(space, [ranked[0], failed], 10) == space


SEARCH = ("optimizer.learning_rate=1e-4:10:log", "model.dropout=0:0.5")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of a sweep of three rounds of six trials, not to be changed."""
    folder = tmp_path_factory.mktemp("sweeps") / "known"
    return folder, sweep(plan(*SEARCH, trials=6, rounds=3), folder, train_a_known_function)


def test_trials_are_runs_with_the_drawn_values_sorted_by_score(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = swept
    assert result["metric"] == "validation accuracy" and len(result["trials"]) == 18
    for trial in result["trials"]:
        run = Run(folder / f"trial-{trial['trial']:03}")
        assert trial["runs"] == [str(run.folder)]
        assert run.config == load(
            [*TINY, *(f"{key}={value}" for key, value in trial["values"].items())]
        )
        # A trial's score is the best score on the validation split, not the last one.
        assert (
            trial["score"]
            == max(row["accuracy"] for row in run.metrics() if row["split"] == "validation")
            <= 1
        )
    scores = [trial["score"] for trial in result["trials"]]
    assert scores == sorted(scores, reverse=True) and result["best"] == result["trials"][0]["trial"]
    assert json.loads((folder / "sweep.json").read_text())["trials"] == result["trials"]


def test_later_rounds_search_around_the_best_trials_and_approach_the_optimum(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    trials = swept[1]["trials"]
    for number in (2, 3):
        # The trials of earlier rounds, which are still sorted by their scores.
        for dimension in narrowed(
            check(SEARCH, load), [trial for trial in trials if trial["round"] < number], 6
        ):
            assert isinstance(dimension, Range)
            drawn = [trial["values"][dimension.key] for trial in trials if trial["round"] == number]
            assert dimension.low * 0.999 <= min(drawn) and max(drawn) <= dimension.high * 1.001

    def distance(number: int) -> float:
        rates = [
            trial["values"]["optimizer.learning_rate"]
            for trial in trials
            if trial["round"] == number
        ]
        return statistics.mean(abs(math.log10(rate / BEST_RATE)) for rate in rates)

    assert distance(3) < distance(1) / 2


def test_tensorboards_hparams_dashboard_finds_each_trials_values_and_score(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = swept
    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    context = backend_context.Context(_Plugins(MultiplexerDataProvider(events, str(folder))))
    experiment = context.experiment_from_metadata(
        RequestContext(),
        "",
        include_metrics=True,
        hparams_run_to_tag_to_content=context.hparams_metadata(RequestContext(), ""),
        data_provider_hparams=[],
    )
    assert sorted(info.name for info in experiment.hparam_infos) == sorted(
        text.partition("=")[0] for text in SEARCH
    )
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS],
        include_metrics=True,
    )
    groups = (
        list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    )
    found = {
        group.name: (
            {key: value.number_value for key, value in group.hparams.items()},
            group.metric_values,
        )
        for group in groups
    }
    assert len(found) == 18
    for trial in result["trials"]:
        values, metrics = found[f"trial-{trial['trial']:03}"]
        assert values == trial["values"]
        assert [metric.name.tag for metric in metrics] == ["validation accuracy"]
        assert metrics[0].value == pytest.approx(trial["score"])


class _Plugins:
    """The part of TensorBoard's context that the HParams plugin uses."""

    def __init__(self, data_provider: MultiplexerDataProvider):
        self.data_provider = data_provider
        self.logdir, self.flags, self.multiplexer = "", None, None


def test_a_stopped_sweep_makes_the_same_trials_as_an_uninterrupted_sweep(
    swept: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    trained: list[str] = []

    def stopped_at_the_ninth(config: Config, folder: Path) -> None:
        trained.append(folder.name)
        if len(trained) == 9:
            raise Interrupted("stopped")
        train_a_known_function(config, folder)

    whole = plan(*SEARCH, trials=6, rounds=3)
    with pytest.raises(Interrupted):
        sweep(whole, tmp_path / "sweep", stopped_at_the_ninth)
    result = sweep(whole, tmp_path / "sweep", stopped_at_the_ninth)
    without = [
        {key: value for key, value in trial.items() if key not in ("runs", "seconds")}
        for trial in result["trials"]
    ]
    assert without == [
        {key: value for key, value in trial.items() if key not in ("runs", "seconds")}
        for trial in swept[1]["trials"]
    ]
    assert trained == [f"trial-{n:03}" for n in [*range(9), *range(8, 18)]]
    assert sweep(whole, tmp_path / "sweep", stopped_at_the_ninth) == result
    assert len(trained) == 19
    longer = sweep(plan(*SEARCH, trials=6, rounds=4), tmp_path / "sweep", stopped_at_the_ninth)
    assert len(longer["trials"]) == 24 and len(trained) == 25


def test_a_pipeline_with_a_base_is_swept_as_one_pipeline(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(DIGITS.read_text(encoding="utf-8"), encoding="utf-8")
    file = tmp_path / "variant.yaml"
    file.write_text("base: base.yaml\nmodel:\n  backbone: resnet8\n", encoding="utf-8")
    variants = Plan(file, TINY[2:], ("model.dropout=0,0.1",), trials=2)
    result = sweep(variants, tmp_path / "sweep", train_a_known_function)
    config = config_file.load(result["pipeline"])
    assert config == variants.load(["model.dropout=0"]) and config.name == "variant"
    assert config_file.load(tmp_path / "sweep" / "pipeline.yaml") == variants.load()


def test_a_different_sweep_is_not_written_into_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    sweep(plan("model.dropout=0:0.5", trials=1), folder, train_a_known_function)
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    for other, message in [
        (plan("model.dropout=0:0.4", trials=1), "another search"),
        (plan("model.dropout=0:0.5", trials=1, overrides=[*TINY, "seed=1"]), "another pipeline;"),
        (
            plan("model.dropout=0:0.5", trials=1, overrides=[*TINY, "data.split_seed=1"]),
            "another pipeline and data",
        ),
        (plan("model.dropout=0:0.5", trials=1, folds=2), "another pipeline and folds"),
    ]:
        with pytest.raises(ConfigError, match=message):
            sweep(other, folder, train_a_known_function)
    with pytest.raises(ConfigError, match="has no sweep"):
        sweep(plan("model.dropout=0:0.5", trials=1), folder / "trial-000", train_a_known_function)
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_incompatible_values_fail_only_their_trial(tmp_path: Path) -> None:
    search = ("train.batch_size=6,8", "train.accumulate=1,4")
    result = sweep(
        plan(*search, overrides=[*TINY, "train.batch_size=8"]),
        tmp_path / "sweep",
        train_a_known_function,
    )
    assert [trial["error"] is None for trial in result["trials"]] == [True, True, True, False]
    assert "equal parts can't be made" in result["trials"][-1]["error"]
    assert result["trials"][-1]["values"] == {"train.batch_size": "6", "train.accumulate": "4"}


def test_a_best_value_at_the_end_of_its_range_is_reported(tmp_path: Path) -> None:
    result = sweep(
        plan("optimizer.learning_rate=0.1:1:log", trials=30),
        tmp_path / "sweep",
        train_a_known_function,
    )
    assert result["notes"] == [
        "the best optimizer.learning_rate is at the lower end of its range; better values may lie"
        " beyond it"
    ]


def test_a_loss_that_is_not_finite_fails_its_trial_and_the_sweep_goes_on(tmp_path: Path) -> None:
    trained: list[str] = []

    def counted(config: Config, folder: Path) -> None:
        trained.append(folder.name)
        (train if config.optimizer.learning_rate > 1 else train_a_known_function)(config, folder)  # type: ignore[union-attr]

    diverging = plan("optimizer.learning_rate=1e30,0.02", overrides=[*TINY, "train.epochs=1"])
    result = sweep(diverging, tmp_path / "sweep", counted)
    good, failed = result["trials"]
    assert (
        good["values"] == {"optimizer.learning_rate": "0.02"}
        and good["score"]
        and good["error"] is None
    )
    assert failed["score"] is None and "not finite" in failed["error"]
    assert sweep(diverging, tmp_path / "sweep", counted) == result and len(trained) == 2


def test_a_sweep_whose_trials_all_fail_is_an_error_and_can_be_repeated(tmp_path: Path) -> None:
    def no_room(config: Config, folder: Path) -> None:
        raise UserError("no space left on device")

    with pytest.raises(
        UserError, match="no trial succeeded; the error of the first trial: no space left on device"
    ):
        sweep(plan("model.dropout=0,0.1"), tmp_path / "sweep", no_room)
    assert (
        len(
            sweep(plan("model.dropout=0,0.1"), tmp_path / "sweep", train_a_known_function)["trials"]
        )
        == 2
    )


def test_a_failed_trial_is_repeated_only_if_no_later_round_depends_on_it(tmp_path: Path) -> None:
    trained: list[str] = []
    failing = {"trial-002", "trial-009"}

    def sometimes_without_memory(config: Config, folder: Path) -> None:
        trained.append(folder.name)
        if folder.name in failing:
            raise UserError("killed by signal 9 (SIGKILL)")
        train_a_known_function(config, folder)

    whole = plan(*SEARCH, trials=6, rounds=2)
    before = sweep(whole, tmp_path / "sweep", sometimes_without_memory)
    assert {trial["trial"] for trial in before["trials"] if trial["error"]} == {2, 9}
    failing.clear()
    after = sweep(whole, tmp_path / "sweep", sometimes_without_memory)
    assert trained[12:] == ["trial-009"]
    assert {trial["trial"] for trial in after["trials"] if trial["error"]} == {2}
    assert {trial["trial"]: trial["values"] for trial in after["trials"]} == {
        trial["trial"]: trial["values"] for trial in before["trials"]
    }


def test_each_configuration_is_cross_validated_on_every_fold(tmp_path: Path) -> None:
    def harder_from_fold_to_fold(config: Config, folder: Path) -> None:
        fold = config.data.fold
        assert fold and folder.name == f"fold-{fold.index}" and fold.of == 3
        train_a_known_function(
            load([*TINY, f"model.dropout={fold.index / 10 + config.model.dropout}"]), folder
        )

    result = sweep(
        plan("model.dropout=0,0.5", folds=3), tmp_path / "sweep", harder_from_fold_to_fold
    )
    best, other = result["trials"]
    assert best["values"] == {"model.dropout": "0"}
    np.testing.assert_allclose(best["scores"][0] - np.array(best["scores"]), [0, 0.01, 0.02])
    assert best["score"] == pytest.approx(best["scores"][1]) and best["deviation"] == pytest.approx(
        0.01
    )
    assert other["score"] == pytest.approx(best["score"] - 0.05)
    assert best["runs"] == [
        str(tmp_path / "sweep" / f"trial-{best['trial']:03}" / f"fold-{fold}") for fold in range(3)
    ]
    alone = sweep(plan(folds=3), tmp_path / "alone", harder_from_fold_to_fold)
    assert [(trial["values"], trial["scores"]) for trial in alone["trials"]] == [
        ({}, best["scores"])
    ]


# Stands for `cvpipe train`: the first Ctrl-C asks it to save, the second stops it at once.
TRAINING = """#!{python}
import signal, sys, time
def stop(*_):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("stopping soon", file=sys.stderr, flush=True)
    if {saves}:
        sys.exit(75)
signal.signal(signal.SIGINT, stop)
print("step 1", file=sys.stderr, flush=True)
try:
    while True:
        time.sleep(0.1)
except KeyboardInterrupt:
    sys.exit(75)
"""


@pytest.mark.parametrize("saves", [True, False])
def test_only_a_sweep_that_was_stopped_once_says_that_everything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: bool
) -> None:
    training = tmp_path / "training"
    training.write_text(TRAINING.format(python=sys.executable, saves=saves))
    training.chmod(0o700)

    def interrupt(line: str, end: str) -> None:
        if "step 1" in line or not saves:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys, "executable", str(training))
    monkeypatch.setattr("cvpipe.search.trial.print_message", interrupt)
    said = "everything is saved" if saves else "this trial from its last checkpoint"
    with pytest.raises(Interrupted, match=said):
        train_in_a_process(load(TINY), tmp_path / "run")


# A sweep's process: trains by the program given first.
SWEEPING = """
import signal
import sys
from pathlib import Path
from cvpipe import config_file
from cvpipe.search.trial import train_in_a_process
# In a background job, the shell of the program below would inherit that SIGINT is ignored, and
# couldn't trap it.
signal.signal(signal.SIGINT, signal.default_int_handler)
config = config_file.load(sys.argv[2])
sys.executable = sys.argv[1]
train_in_a_process(config, Path(sys.argv[3]))
"""


def test_a_training_is_asked_to_stop_when_its_sweep_is_killed(tmp_path: Path) -> None:
    training, stopped = tmp_path / "training", tmp_path / "stopped"
    os.mkfifo(stopped)
    training.write_text(
        f"#!/bin/sh\ntrap 'echo saved > {stopped}; exit' INT\necho step 1 >&2\n"
        "n=0; while [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done\n"
        f"echo still trains > {stopped}\n"
    )
    training.chmod(0o700)
    words = [sys.executable, "-c", SWEEPING, training, DIGITS, tmp_path / "run"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and process.stderr.readline() == "step 1\n"
        process.kill()
    assert stopped.read_text() == "saved\n"


def test_the_durations_of_a_stopped_trial_add_up(tmp_path: Path) -> None:
    starts: list[str] = []

    def stopped_first(config: Config, folder: Path) -> None:
        starts.append(folder.name)
        train_a_known_function(config, folder)
        if len(starts) == 1:
            raise Interrupted("stopped")

    one, file = plan("model.dropout=0:0.5", trials=1), tmp_path / "sweep" / "sweep.json"
    with pytest.raises(Interrupted):
        sweep(one, tmp_path / "sweep", stopped_first)
    written = json.loads(file.read_text())
    written["runs"]["trial-000"]["seconds"] += 1000
    file.write_text(json.dumps(written))
    [trial] = sweep(one, tmp_path / "sweep", stopped_first)["trials"]
    assert trial["seconds"] >= 1000 and not trial["error"] and len(starts) == 2


def test_a_trial_that_another_process_still_trains_has_not_failed(tmp_path: Path) -> None:
    def stopped(config: Config, folder: Path) -> None:
        raise Interrupted("stopped")

    one, folder = plan("model.dropout=0:0.5", trials=1), tmp_path / "sweep"
    with pytest.raises(Interrupted):
        sweep(one, folder, stopped)
    before = (folder / "sweep.json").read_bytes()
    with (
        Run(folder / "trial-000").locked(),
        pytest.raises(UserError, match="trial-000: another process is training this run"),
    ):
        sweep(one, folder, train_a_known_function)
    assert (folder / "sweep.json").read_bytes() == before
    assert sweep(one, folder, train_a_known_function)["best"] == 0


@pytest.mark.soak
def test_a_stopped_and_repeated_trial_has_the_same_bits_as_cvpipe_train(tmp_path: Path) -> None:
    folder, options = (
        tmp_path / "sweep",
        {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
    )
    (values,) = draws(0, [Range("optimizer.learning_rate", 0.01, 0.03, log=True)], 1)
    sets = [word for override in TINY for word in ("--set", override)]
    command = [
        sys.executable,
        "-m",
        "cvpipe",
        "sweep",
        str(DIGITS),
        *sets,
        "--json",
        "--run",
        str(folder),
    ]
    command += ["--search", "optimizer.learning_rate=0.01:0.03:log", "--trials", "1"]
    alone = [
        sys.executable,
        "-m",
        "cvpipe",
        "train",
        str(DIGITS),
        *sets,
        "--json",
        "--run",
        str(tmp_path / "alone"),
    ]
    alone += ["--set", f"optimizer.learning_rate={values['optimizer.learning_rate']}"]
    with subprocess.Popen(alone, **options) as other, subprocess.Popen(command, **options) as first:  # type: ignore[call-overload]
        assert any("epoch 1/2" in line for line in first.stderr)
        first.send_signal(signal.SIGINT)
        out, output = first.communicate()
        assert first.returncode == Interrupted.exit_code, output
        assert "The same command continues the sweep" in output and out == ""
        assert other.communicate() and other.returncode == 0
    done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    (trial,) = json.loads(done.stdout)["trials"]
    assert trial["runs"] == [str(folder / "trial-000")] and trial["values"] == values
    expected, given = (
        np.load(Run(run).checkpoint("last")) for run in (tmp_path / "alone", trial["runs"][0])
    )
    assert set(expected) == set(given)
    for name in expected:
        np.testing.assert_array_equal(expected[name], given[name], err_msg=name)


def test_the_command_prints_sorted_trials_and_the_command_that_trains_the_best_again(
    cvpipe: Cvpipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    sets = [word for override in TINY for word in ("--set", override)]
    arguments = ["sweep", DIGITS, *sets, "--search", "model.dropout=0,0.25", "--run", folder]
    # These trials have scores already, so the command has nothing to train.
    sweep(plan("model.dropout=0,0.25"), folder, train_a_known_function)
    code, out, err = cvpipe(*arguments)
    assert code == 0, err
    table = out.splitlines()
    assert table[0].split() == [
        "trial",
        "round",
        "model.dropout",
        "validation",
        "accuracy",
        "seconds",
    ]
    assert [line.split()[2] for line in table[1:3]] == ["0", "0.25"]
    assert f"again    cvpipe train {folder}/best.yaml" in table
    assert config_file.load(folder / "best.yaml").model.dropout == 0
    code, out, err = cvpipe(*arguments, "--json")
    assert code == 0 and json.loads(out)["run"] == str(folder)
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, out, err = cvpipe(*arguments)
    assert (code, out) == (1, "") and "pip install 'cvpipe[sweep]'" in err
