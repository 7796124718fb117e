"""Guards docs/canon.md: it lists every network, and equals what docs/generate writes."""

from __future__ import annotations

import sys

import pytest

from conftest import ROOT
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.describe import describe

# docs/generate isn't a package.
sys.path.insert(0, str(ROOT / "docs/generate"))
from canon import canon, page

sys.path.pop(0)


def test_the_page_lists_every_network() -> None:
    lines = (ROOT / "docs" / "canon.md").read_text(encoding="utf-8").splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert listed == list(NETWORKS)


def test_a_line_of_the_page_holds_ours_beside_the_published_figures() -> None:
    described = describe("squeezenet1_1")
    committed = (ROOT / "docs" / "canon.md").read_text(encoding="utf-8")
    [line] = [line for line in page([described]).splitlines() if "`squeezenet1_1`" in line]
    assert line in committed
    for cell in ("1,235,496", "**1,235,496** (T)", "349.2", "**349** (T)", "224×224×3"):
        assert f"| {cell} |" in line


@pytest.mark.soak
def test_the_committed_page_is_generated() -> None:
    committed = (ROOT / "docs" / "canon.md").read_text(encoding="utf-8")
    assert committed == canon(), "run `python docs/generate`"
