"""Guards pictures of networks: each stage's shape and sizes, and the connections of the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from PIL import Image

from conftest import DIGITS
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone
from cvpipe.models.describe import describe_model, published_model
from cvpipe.models.detectors import ssd, ssd_maps
from cvpipe.models.layer_table import as_json, layer_table
from cvpipe.pictures.network import Stage, draw_networks, stages_of


def rows(model: keras.Model) -> list[dict[str, Any]]:
    return [as_json(row) for row in layer_table(model)]


def test_stages_add_up_to_the_network_and_follow_each_other() -> None:
    model = published_model("resnet20")
    stages, described = stages_of(rows(model)), describe_model(model)
    names = ["image", "stem", "stage1", "stage2", "stage3", "pool", "logits"]
    assert [stage.name for stage in stages] == names
    assert [stage.inputs for stage in stages] == [(), (0,), (1,), (2,), (3,), (4,), (5,)]
    assert sum(stage.parameters for stage in stages) == described["parameters"]
    assert sum(stage.macs for stage in stages) == described["macs"]
    assert stages[3] == Stage("stage2", (16, 16, 32), 6, *stages[3][3:])


@without_weights()
def test_a_head_reads_each_of_its_maps() -> None:
    maps = ssd_maps((64, 64), (8, 16), 4)
    model = ssd(
        backbone("resnet18"), (64, 64, 3), 3, maps=maps, boxes=[2, 2], width=0.1, style=Style()
    )
    stages = {stage.name: stage for stage in stages_of(rows(model))}
    read = {
        name: [list(stages)[number] for number in stage.inputs] for name, stage in stages.items()
    }
    assert read["head1"] == ["stage2"] and read["head2"] == ["stage3"]


def test_a_picture_says_the_shape_and_size_of_each_stage() -> None:
    figure = draw_networks({"a$b$": rows(published_model("lenet5"))})
    [axes] = figure.axes
    texts = [text.get_text().strip() for text in axes.texts]
    for said in ("c1", "28×28×6", "1 layer, 156 parameters, 118 k multiply-adds"):
        assert said in texts
    assert axes.get_title() == r"a\$b\$"


@pytest.mark.parametrize("words", [["resnet8"], ["--pipeline", str(DIGITS)]])
def test_the_command_writes_a_picture(
    cvpipe: Callable[..., tuple[int, str, str]], tmp_path: Path, words: list[str]
) -> None:
    file = tmp_path / "folder" / "a.png"
    code, _, _ = cvpipe("models", *words, "--draw", file)
    assert code == 0
    with Image.open(file) as picture:
        assert picture.size[0] > 300 and len(picture.getcolors(10_000_000)) > 10


def test_a_picture_of_an_unknown_kind_is_an_error(
    cvpipe: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = cvpipe("models", "resnet8", "--picture", tmp_path / "a.xyz")
    assert code == 2 and "end its name with .png" in err
