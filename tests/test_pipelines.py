"""Guards the shipped pipelines: one style, a head that says how to run them, and bases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from cvpipe import config_file
from cvpipe.errors import ConfigError

PIPELINES = sorted((ROOT / "pipelines").rglob("*.yaml"))
# Sections of a pipeline, in the order in which data passes through them.
ORDER = "base task data augment mix prepare test_time model loss optimizer schedule train export"
WHOLE = """\
task: classification
data:
  source:
    kind: digits
augment:
  - op: flip
prepare:
  size: [8, 8]
model:
  backbone: resnet20
  width: 0.5
optimizer:
  kind: adamw
  weight_decay: 0.1
train:
  epochs: 2
  batch_size: 8
"""


def nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from nodes(key)
            yield from nodes(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from nodes(value)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_pipelines_have_one_style(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    top = yaml.compose(text)
    assert isinstance(top, yaml.MappingNode)
    keys = [key.value for key, _ in top.value]
    assert keys == [key for key in ORDER.split() if key in keys] and keys[0] in ("task", "base")
    for node in nodes(top):
        # Lists of scalars are in brackets; all other lists, and mappings, are in block style.
        if isinstance(node, yaml.MappingNode):
            assert not node.flow_style, node.start_mark
        elif isinstance(node, yaml.SequenceNode):
            values = all(isinstance(value, yaml.ScalarNode) for value in node.value)
            assert bool(node.flow_style) == values, node.start_mark
    head, body = re.fullmatch(r"((?:# .*\n|#     .*\n)+)((?:.+\n)+)", text).groups()  # type: ignore[union-attr]
    indents = [len(line) - len(line.lstrip(" ")) for line in body.splitlines()]
    assert (
        all(indent % 2 == 0 for indent in indents)
        and "\t" not in body
        and "#" not in re.sub(r'"#\w+"', "", body)
    )
    assert f"#     cvpipe train {path.relative_to(ROOT)}\n" in head
    assert re.search(r"\b2(?: busy)?\s(?:# )?cores\b", head)
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", head)


MEASURED = {
    row["name"].replace("test accuracy", "accuracy"): row["value"]
    for path in (ROOT / "benchmarks/results").glob("*.json")
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
}
SCORES = {"accuracy": "{:.2%}", "AP50": "{:.1%}", "AP": "{:.1%}", "mean IoU": "{:.1%}"}


@pytest.mark.parametrize(
    "name, score",
    [
        (path.stem, score)
        for path in PIPELINES
        for score in SCORES
        if f"{path.stem}: {score}" in MEASURED
    ],
)
def test_the_head_comment_contains_the_measured_score(name: str, score: str) -> None:
    [path] = [path for path in PIPELINES if path.stem == name and "localization" not in str(path)]
    head = " ".join(re.findall(r"^#\s+(.*)$", path.read_text(encoding="utf-8"), re.M))
    value = SCORES[score].format(MEASURED[f"{name}: {score}"])
    assert re.search(rf"\b{score}\b (?:\S+ ){{0,1}}?{re.escape(value)}", head, re.I), value


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_pipeline_overrides_its_base(tmp_path: Path) -> None:
    write(tmp_path, "whole.yaml", f"name: whole\n{WHOLE}")
    write(tmp_path, "longer.yaml", "base: whole.yaml\ntrain:\n  epochs: 9\n")
    variant = write(
        tmp_path,
        "more/variant.yaml",
        "base: ../longer.yaml\naugment: []\nmodel:\n  width: 1\n"
        "optimizer:\n  kind: sgd\n  learning_rate: 0.1\n",
    )
    config = config_file.load(variant, ["train.batch_size=4"])
    assert config.name == "variant"
    assert (config.train.epochs, config.train.batch_size) == (9, 4)
    assert (config.model.backbone, config.model.width) == ("resnet20", 1)
    assert config.augment == ()
    # An optimizer of another kind inherits no keys from the base.
    assert config.optimizer.model_dump(exclude_unset=True) == {"kind": "sgd", "learning_rate": 0.1}


@pytest.mark.parametrize(
    "text, message",
    [
        ("base: whole.yaml\ntrain:\n  epoch: 3\n", "p.yaml:3: unknown key 'train.epoch'"),
        ("base: wrong.yaml\ntrain:\n  epochs: 3\n", "wrong.yaml:8: 'prepare.size' should be"),
        ("base: whole.yaml\noptimizer:\n  kind: lbfgs\n", "whole.yaml:5: augment doesn't go with"),
        ("base: p.yaml\n", "p.yaml: the file is its own base; name another file in 'base'"),
        ("base: there.yaml\n", "there.yaml: no such pipeline file; "),
        (
            'base: "a\\0b"\n',
            "p.yaml:1: 'base' must be the path of a pipeline file, relative to this one",
        ),
        ("base: [whole.yaml]\n", "p.yaml:1: 'base' must be the path of a pipeline file, relative"),
    ],
)
def test_the_error_of_a_mistake_names_the_file_that_contains_it(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, "whole.yaml", WHOLE)
    write(tmp_path, "wrong.yaml", WHOLE.replace("[8, 8]", "big"))
    with pytest.raises(ConfigError) as error:
        config_file.load(write(tmp_path, "p.yaml", text))
    assert str(error.value).replace(f"{tmp_path}/", "").startswith(message)
