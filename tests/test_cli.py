"""Guards the command line: exit codes, error sentences instead of tracebacks, readable stdout."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import tensorflow as tf

from conftest import DIGITS, ROOT
from cvpipe.cli import COMMANDS, _parser
from cvpipe.commands.command import class_lines, make_output_folder, tidy_output_folders

Cvpipe = Callable[..., tuple[int, str, str]]


def modules_imported_by(*arguments: str) -> set[str]:
    script = (
        "import sys\nfrom cvpipe.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('imported', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return set(done.stderr.rpartition("imported")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["init", "--help"],
        ["schema"],
        ["train", str(DIGITS), "--set", "train.epohs=3"],
        ["sweep", str(DIGITS), "--search", "model.dropout=0:1"],
        ["data", "check", "--help"],
        ["data", "check", str(DIGITS), "--set", "data.sauce=3"],
        ["preflight", str(DIGITS), "--target", "v5e-3"],
    ],
)
def test_help_schema_and_wrong_pipelines_are_answered_without_importing_tensorflow(
    arguments: list[str],
) -> None:
    imported = modules_imported_by(*arguments)
    assert "cvpipe.cli" in imported
    assert not imported & {"tensorflow", "keras", "sklearn", "matplotlib"}


def test_every_command_is_explained(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("--help")
    assert code == 0
    for command in (
        "init",
        "train",
        "evaluate",
        "export",
        "benchmark",
        "predict",
        "serve",
        "data",
        "sweep",
        "baselines",
        "preflight",
        "models",
        "schema",
        "info",
        "completion",
    ):
        assert f"\n    {command}" in out
        assert cvpipe(command, "--help")[0] == 0


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of commands without subcommands."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for child in action.choices.values():
            yield from leaves(child)


def test_help_ends_with_examples_that_the_parser_accepts() -> None:
    whole = _parser(COMMANDS, [])
    for parser in leaves(whole):
        examples = str(parser.epilog).partition("examples:\n")[2].splitlines()
        lines = [re.search("cvpipe [^|>)]*", example) for example in examples]
        commands = [shlex.split(line[0], comments=True) for line in lines if line]
        assert len(commands) == len(examples) > 0, parser.prog
        commands_of_parser = [
            words for words in commands if " ".join(words).startswith(parser.prog)
        ]
        assert commands_of_parser, parser.prog
        for words in commands:
            whole.parse_args(words[1:])


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "required: COMMAND"),
        (["trian"], 2, "invalid choice: 'trian'"),
        (["train"], 2, "PIPELINE.yaml"),
        (
            ["train", "pipelines/classification/digit.yaml"],
            2,
            "no such pipeline file; did you mean pipelines/classification/digits.yaml?",
        ),
        (
            ["train", str(DIGITS), "--set", "train.epohs=3"],
            2,
            "unknown key 'train.epohs'; did you mean 'epochs'?",
        ),
        (
            ["train", str(DIGITS), "--set", "train.epochs=many"],
            2,
            "'train.epochs' should be an integer, not \"many\"",
        ),
        (
            ["train", str(DIGITS), "--set", "data.source={kind: folder, path: nowhere}"],
            1,
            "nowhere: no such folder",
        ),
        (
            ["train", str(DIGITS), "--set", "data.source={kind: idx, path: nowhere}"],
            1,
            "nowhere: no such folder or zip archive",
        ),
        (
            ["train", str(DIGITS), "--set", "train.strategy=multiworker"],
            2,
            "needs a cluster; set the environment variable TF_CONFIG",
        ),
        (
            ["train", str(DIGITS), "--run", "pipelines/classification/digits.yaml"],
            2,
            "digits.yaml: is a file; choose a folder with --run",
        ),
        (
            ["data", "check", str(DIGITS), "--to", "pipelines/classification/digits.yaml/check"],
            2,
            "digits.yaml: is a file; choose a folder with --to",
        ),
        (
            ["init", "nowhere"],
            1,
            "nowhere: no such folder or zip archive; give the path of the files",
        ),
        (["evaluate", "nowhere"], 1, "nowhere: neither a run nor an exported model"),
        (["export", "nowhere"], 1, "nowhere: not a run"),
        (["predict", "nowhere", "image.png"], 1, "nowhere: no exported model there"),
        (
            ["export", "pipelines/classification/digits.yaml"],
            1,
            "digits.yaml: this is a pipeline file; train it with: cvpipe train"
            " pipelines/classification/digits.yaml, and export the run with: cvpipe export RUN,"
            " where RUN is the run's folder, such as runs/digits",
        ),
        (["evaluate", "pipelines/detection/bccd_ssd.yaml"], 1, "such as runs/bccd_ssd"),
        (["predict", "pipelines/detection/bccd_ssd.yaml", "image.png"], 1, "a pipeline file;"),
        (
            ["export", "pipelines/classification/digits.png"],
            1,
            "digits.png: this is a file; give the folder of a run or of an exported model",
        ),
        (["serve", "nowhere"], 1, "nowhere"),
        (["models", "resnet19"], 2, "resnet19"),
        (["models", "compare", "resnet8"], 2, "two or more names"),
        (["models", "--draw", "x.png"], 2, "name one"),
        (["models", "resnet8", "--pipeline", str(DIGITS)], 2, "--pipeline or resnet8, not both"),
        (["models", "--set", "model.width=2"], 2, "add --pipeline"),
        (["data"], 2, "required: COMMAND"),
        (["data", "chek"], 2, "invalid choice: 'chek'"),
        (["data", "check"], 2, "PIPELINE.yaml"),
        (
            ["data", "check", "nowhere.yaml"],
            2,
            "cvpipe data check: nowhere.yaml: no such pipeline file",
        ),
        (
            ["data", "check", str(DIGITS), "--set", "data.source={kind: folder, path: nowhere}"],
            1,
            "nowhere: no such folder",
        ),
        (["train", str(DIGITS), "--sanity", "--fresh"], 2, "--sanity trains nothing"),
        (
            ["train", str(DIGITS), "--sanity", "--sanity-steps", "many"],
            2,
            "invalid int value: 'many'",
        ),
    ],
)
def test_wrong_use_gives_an_error_sentence_and_an_exit_code(
    cvpipe: Cvpipe,
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    given, out, err = cvpipe(*arguments)
    assert given == code
    assert message in err
    assert "Traceback" not in err and out == ""
    assert sorted(child.name for child in tmp_path.iterdir()) == ["pipelines"]


@pytest.mark.parametrize(
    "words, order",
    [
        (["predict", "--help"], '{"ymin": top, "xmin": left, "ymax": bottom, "xmax": right}'),
        (["serve", "--help"], "[ymin, xmin, ymax, xmax] in pixels"),
        (["schema"], "ymin, xmin, ymax, xmax in pixels of the original image"),
    ],
)
def test_help_and_schema_explain_the_order_of_box_coordinates(
    cvpipe: Cvpipe, words: list[str], order: str
) -> None:
    code, out, _ = cvpipe(*words)
    assert code == 0 and order in " ".join(out.split())


def test_debug_shows_where_an_error_comes_from() -> None:
    command = [sys.executable, "-m", "cvpipe", "export", "nowhere", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_network_is_described_by_its_name(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("models", "resnet20", "--json")
    assert code == 0 and [row["name"] for row in json.loads(out)] == ["resnet20"]


def test_a_networks_layers_are_listed(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("models", "lenet5")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["c1", "Conv2D", "28×28×6", "156", "117,600", "4,704", "5×5"] in lines
    assert ["total", "61,706", "416,520", "9,238"] in lines


def test_the_network_of_a_pipeline_is_listed_with_its_head(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("models", "--pipeline", str(DIGITS), "--set", "model.width=0.5", "--json")
    [network] = json.loads(out)
    assert code == 0 and network["task"] == "classification"
    assert network["layers"][-1]["name"] == "logits"
    assert network["layers"][-1]["shape"] == [10]
    assert sum(row["parameters"] for row in network["layers"]) == network["parameters"]


def test_two_networks_are_compared_with_their_latency(cvpipe: Cvpipe, tmp_path: Path) -> None:
    picture = tmp_path / "compared.png"
    words = ("compare", "lenet5", "resnet8", "--json", "--draw", str(picture))
    code, out, _ = cvpipe("models", *words)
    rows = json.loads(out)
    assert tf.io.decode_png(picture.read_bytes()).shape[:2] == (500, 700)
    assert code == 0 and [row["name"] for row in rows] == ["lenet5", "resnet8"]
    assert all(row["latency_ms"] > 0 for row in rows)


@pytest.mark.soak
def test_models_as_json_lists_what_each_network_costs(cvpipe: Cvpipe) -> None:
    code, out, _ = cvpipe("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {
        "lenet5",
        "resnet20",
        "resnet32",
        "resnet18",
        "resnet34",
        "resnet50",
        "mobilenet_v2",
    } <= rows.keys()
    assert rows["resnet50"].keys() == {
        "name",
        "task",
        "parameters",
        "trainable_parameters",
        "macs",
        "activations",
        "activation_bytes",
        "receptive_field",
        "published",
        "input_shape",
        "paper",
    }
    assert rows["resnet50"]["trainable_parameters"] == 25_557_032


def test_the_schema_accepts_what_the_configuration_accepts(cvpipe: Cvpipe) -> None:
    import jsonschema

    from cvpipe import config_file

    schema = json.loads(cvpipe("schema")[1])
    whole = config_file.load(DIGITS).to_json()
    jsonschema.validate(whole, schema)
    with pytest.raises(jsonschema.ValidationError, match="epohs"):
        jsonschema.validate({**whole, "train": {**whole["train"], "epohs": 3}}, schema)


@pytest.mark.soak
def test_train_prints_one_json_object_and_nothing_else(
    small_arguments: list[str], tmp_path: Path
) -> None:
    arguments = [
        *small_arguments,
        "--set",
        "train.epochs=1",
        "--set",
        "model={backbone: linear, norm: none}",
        "--json",
        "--run",
        str(tmp_path / "run"),
    ]
    command = [sys.executable, "-m", "cvpipe", "train", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {
        "accuracy",
        "top5_accuracy",
        "loss",
        "images",
        "quarantined",
        "run",
        "report",
    } <= result.keys()
    assert "validation accuracy" in done.stderr


def test_evaluate_prints_the_same_numbers_for_a_run_and_its_artifact(
    cvpipe: Cvpipe, run_copy: Path, artifact: Path
) -> None:
    from_run = json.loads(cvpipe("evaluate", run_copy, "--json")[1])
    from_artifact = json.loads(cvpipe("evaluate", artifact.parent, "--json")[1])
    for name in ("accuracy", "top5_accuracy", "images", "quarantined"):
        assert from_run[name] == from_artifact[name]
    assert from_run["loss"] == pytest.approx(from_artifact["loss"], abs=1e-5)


def test_evaluate_names_the_existing_splits(cvpipe: Cvpipe, run_copy: Path) -> None:
    validation = json.loads(cvpipe("evaluate", run_copy, "--split", "validation", "--json")[1])
    assert validation["split"] == "validation"
    code, _, err = cvpipe("evaluate", run_copy, "--split", "tset")
    assert code == 2 and "train, test, validation" in err


def test_each_class_has_a_line_and_a_long_list_is_cut_off() -> None:
    def row(ap: float) -> dict[str, float]:
        return {"ap": ap, "objects": 3}

    lines = class_lines({"per_class": {"cat": row(0.25), "a\nb": row(float("nan"))}})
    assert lines == ["", "class  ap     objects", "cat    0.250  3", "a b    –      3", ""]
    many = class_lines({"per_class": {str(number): row(0.5) for number in range(80)}})
    assert len(many) == 1 + 1 + 20 + 1 + 1 and many[-2] == "and 60 more classes"
    assert class_lines({"accuracy": 1.0}) == []


@pytest.fixture
def some_images(tmp_path: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    contents = {
        "good.png": tf.io.encode_png(pixels).numpy(),
        "empty.jpg": b"",
        "cut.png": tf.io.encode_png(pixels).numpy()[:99],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in [*contents, "missing.png"]]


def test_predict_answers_each_image_on_its_line(
    cvpipe: Cvpipe, artifact: Path, some_images: list[Path], tmp_path: Path
) -> None:
    before = {image: image.read_bytes() for image in some_images if image.exists()}
    picture = tmp_path / "good.png.prediction.png"
    code, out, _ = cvpipe("predict", artifact, *some_images, "--draw", tmp_path)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row["image"] for row in rows] == [str(image) for image in some_images]
    assert ["error" in row for row in rows] == [False, True, True, True]
    assert rows[0]["top"][0]["class_name"] == rows[0]["class_name"]
    assert [row.get("picture") for row in rows] == [str(picture), None, None, None]
    assert "No such file" in rows[3]["error"]
    assert {image: image.read_bytes() for image in before} == before
    assert list(tmp_path.glob("*.prediction.png")) == [picture]


def test_predict_succeeds_if_all_images_are_good(
    cvpipe: Cvpipe, artifact: Path, some_images: list[Path]
) -> None:
    assert cvpipe("predict", artifact.parent, some_images[0])[0] == 0


def test_a_setting_that_an_artifact_lacks_is_wrong_use(
    cvpipe: Cvpipe, artifact: Path, some_images: list[Path]
) -> None:
    code, out, err = cvpipe("predict", artifact, some_images[0], "--score-threshold", "0.5")
    assert code == 2 and out == "" and "unrecognized arguments: --score-threshold" in err


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "a.yaml", "--run-dir", "b"], "--run-dir b; did you mean --run?"),
        (["predict", "a", "b.png", "--zzz=1"], "--zzz=1\n"),
        (["evaluate", "runs/a", "-mistakes", "b"], "did you mean --mistakes?"),
    ],
)
def test_an_unknown_option_is_reported_with_the_most_similar_one_and_the_usage_of_the_command(
    cvpipe: Cvpipe, words: list[str], said: str
) -> None:
    code, out, err = cvpipe(*words)
    assert code == 2 and out == "" and said in err and err.startswith(f"usage: cvpipe {words[0]} ")


def test_a_failed_command_leaves_no_empty_folder_that_it_has_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in ("mine", "used", "deep/empty"):
        make_output_folder(tmp_path / folder, "report.md", "--to")
    (tmp_path / "used" / "report.md").touch()
    tidy_output_folders()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]
    assert [path.name for path in tmp_path.glob("*/*")] == ["report.md"]


def test_the_module_cvpipe_cli_can_be_run_as_the_command() -> None:
    command = [sys.executable, "-m", "cvpipe.cli", "--version"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listed.startswith("cvpipe ")


@pytest.mark.parametrize(
    "words, code",
    [
        (("predict", "artifact", "photos", "--to", "answers"), 75),
        (("predict", "artifact", "photos"), 1),
        (("data", "pack", DIGITS, "--to", "packed"), 75),
    ],
)
def test_ctrl_c_has_the_exit_code_of_resumable_commands_only(
    cvpipe: Cvpipe, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int
) -> None:
    def stop(_: argparse.Namespace) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("cvpipe.commands.predict.predict", stop)
    monkeypatch.setattr("cvpipe.commands.data.pack", stop)
    found, _, err = cvpipe(*words)
    assert found == code and ("the same command resumes" in err) == (code == 75)
