"""Generate the parts of Markdown files between `<!-- begin NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from canon_results import CANON
from commands import commands
from data_sets import data_sets
from explanations import explanation_quality, pointing
from gallery import gallery
from messages import messages
from models import models
from preflight import PREFLIGHT
from races import RACES
from robustness import corruptions
from scores import SCORES

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "data/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
]
BLOCKS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "data-sets": data_sets,
    "augmentations": gallery,
    "messages": messages,
    "models": models,
    "explanation-quality": explanation_quality,
    "pointing": pointing,
    "corruptions": corruptions,
    **PREFLIGHT,
    **RACES,
    **SCORES,
    **CANON,
}
BLOCK = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.S)


def filled(text: str) -> str:
    """Return a page with its generated parts replaced by current ones."""
    return BLOCK.sub(lambda found: f"{found[1]}{made(found[2])}{found[3]}", text)


@functools.cache
def made(name: str) -> str:
    """Return the text of a generated part."""
    return f"\n{BLOCKS[name]().strip()}\n\n"
