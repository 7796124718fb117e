"""Guards the generated parts of Markdown files: the committed text is what docs/generate writes."""

from __future__ import annotations

import sys

import pytest
from pydantic import TypeAdapter

from conftest import ROOT
from cvpipe.cli import COMMANDS
from cvpipe.config import Pipeline
from cvpipe.config.augment.combined import CutMix, MixUp
from cvpipe.data.augment import OPERATIONS

# docs/generate isn't a package.
sys.path.insert(0, str(ROOT / "docs/generate"))
import gallery
import races
import results
from blocks import BLOCK, BLOCKS, PAGES, filled
from configuration import configuration
from examples import examples

sys.path.pop(0)


@pytest.mark.parametrize("page", PAGES)
def test_a_committed_page_is_as_it_is_generated(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert filled(text) == text, "run `python docs/generate`"


def test_the_committed_reference_is_generated_from_the_pipeline() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == configuration(), "run `python docs/generate`"


def test_every_section_with_keys_has_an_example() -> None:
    definitions = TypeAdapter(Pipeline).json_schema()["$defs"]
    sections = {name for name, found in definitions.items() if found.get("properties")}
    missing = sections - examples().keys()
    assert not missing, "add them to docs/generate/examples.yaml"


def test_every_generated_part_is_on_a_page_and_every_mark_is_known() -> None:
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    names = [found[2] for text in texts for found in BLOCK.finditer(text)]
    assert set(names) == set(BLOCKS)
    # docs/generate ignores a misspelled mark, and would leave its part as it is.
    assert sum(text.count("<!-- begin ") + text.count("<!-- end ") for text in texts) == 2 * len(
        names
    )


def test_the_gallery_has_every_operation_with_its_picture() -> None:
    kinds = [*OPERATIONS, MixUp, CutMix]
    operations = {kind.model_fields["op"].annotation.__args__[0] for kind in kinds}
    assert set(gallery.SETTINGS) == operations
    for op in operations:
        picture = gallery.FOLDER / f"{op}.jpg"
        assert picture.read_bytes()[:2] == b"\xff\xd8" and picture.stat().st_size < 30_000


def test_every_command_has_a_section() -> None:
    text = BLOCKS["commands"]()
    for command in COMMANDS:
        assert f"## cvpipe {command}" in text
    for flag in ("--sanity-steps N", "--draw DIR", "--grpc-port"):
        assert flag in text


def test_a_ratio_is_that_of_the_benchmark_itself() -> None:
    recorded = results.result("detection")["values"]
    for run in races.OTHERS:
        if run.file == "detection":
            ratio = float(races.race(run)[-1])
            assert abs(ratio - recorded[f"{run.group}: best peer / cvpipe"]) < 0.006
    recorded = results.result("input_pipeline")["values"]
    for run in races.INPUTS:
        ratio = float(races.race(run)[-1])
        assert abs(ratio - recorded[f"{run.group}: cvpipe / best peer"]) < 0.006
