"""Guards docs/data_formats.md: cvpipe reads the files of each example."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import ROOT
from cvpipe import config_file
from cvpipe.data.check import check
from cvpipe.data.sources import open_splits

PAGE = (ROOT / "docs/data_formats.md").read_text(encoding="utf-8")
# A pipeline of each kind of annotation, whose data the page's replaces.
BASES = {
    "Labels": "classification/digits.yaml",
    "Boxes": "detection/digit_scenes_ssd.yaml",
    "Masks": "segmentation/digit_scenes_fcn.yaml",
    "Keypoints": "pose/stick_figures.yaml",
}
SECTIONS = {
    f"{group} {name}": (BASES[group], text)
    for group, body in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
    if group in BASES
    for name, text in re.findall(r"^### ([\w ]+)\n(.*?)(?=^### |\Z)", body, re.S | re.M)
}
SIZE = (48, 64)


def write_image(path: Path, number: int, colors: list[str]) -> None:
    """Write an image, or a mask of these colors."""
    random = np.random.default_rng(number)
    if "masks" in path.parent.name:
        palette = np.array([[int(color[n : n + 2], 16) for n in (1, 3, 5)] for color in colors])
        pixels = palette[random.integers(0, len(colors), SIZE)]
    else:
        pixels = random.integers(0, 256, (*SIZE, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_idx(path: Path, number: int) -> None:
    shape = (4, 8, 8) if "images" in path.name else (4,)
    values = np.random.default_rng(number).integers(0, 256, shape) if len(shape) > 1 else [0, 1] * 2
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + np.asarray(values, np.uint8).tobytes()))


def build(text: str, folder: Path) -> dict[str, Any]:
    """Write a section's files; return the part of a pipeline that the section shows."""
    blocks = re.findall(r'```(\w+)(?: title="([^"]+)")?\n(.*?)```', text, re.S)
    [part] = [yaml.safe_load(body) for kind, title, body in blocks if kind == "yaml" and not title]
    source = part["data"]["source"]
    colors = [known["color"] for known in source.get("classes", []) if isinstance(known, dict)]
    listed = [body.split() for kind, title, body in blocks if kind == "text" and not title]
    for number, name in enumerate(sum(listed, [])):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "ubyte" in name:
            write_idx(path, number)
        else:
            write_image(path, number, colors)
    for _, title, body in blocks:
        if title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(body, encoding="utf-8")
    for kind, title, body in blocks:
        if kind == "python":
            exec(compile(body, title, "exec"), {})
        elif kind == "sh":
            subprocess.run(body, shell=True, check=True, cwd=folder)
    return dict(part)


# A few examples suffice for the command: each format has its own tests elsewhere.
FEW = ("Labels folder", "Boxes voc", "Masks masks")
PARAMS = [
    *FEW,
    *(pytest.param(name, marks=pytest.mark.soak) for name in sorted({*SECTIONS} - {*FEW})),
]


@pytest.fixture(params=PARAMS)
def pipeline(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A pipeline on the files of an example, which lie in the current folder."""
    base, text = SECTIONS[request.param]
    monkeypatch.chdir(tmp_path)
    part = build(text, tmp_path)
    Path("p.yaml").write_text(json.dumps({"base": str(ROOT / "pipelines" / base), **part}))
    return "p.yaml"


def test_the_files_of_an_example_are_read(pipeline: str) -> None:
    config = config_file.load(pipeline)
    result = check(open_splits(config.data), config.prepare.channels)
    assert result["clean"] and {"train", "test"} <= result["splits"].keys(), result
    for found in result["splits"].values():
        assert found["examples"] and not found["broken"]


@pytest.mark.soak
@pytest.mark.parametrize("pipeline", FEW, indirect=True)
def test_the_command_finds_nothing_wrong(
    pipeline: str, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = cvpipe("data", "check", pipeline)
    assert code == 0, err + out


def test_every_kind_of_source_is_on_the_page() -> None:
    from cvpipe.config.box_sources import BoxSource
    from cvpipe.config.keypoint_sources import KeypointSource
    from cvpipe.config.label_sources import LabelSource
    from cvpipe.config.mask_sources import MaskSource

    kinds = {
        kind
        for union in (LabelSource, BoxSource, MaskSource, KeypointSource)
        for section in union.__args__[0].__args__
        for kind in section.model_fields["kind"].annotation.__args__
    }
    table = PAGE.partition("| Format |")[2].partition("\n\n")[0]
    assert kinds == {
        word
        for row in table.splitlines()[2:]
        for word in re.findall(r"[a-z_]+", re.sub(r"\(#[^)]*\)", "", row.split("|")[1]))
    }
