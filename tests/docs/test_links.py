"""Guards links between Markdown files: each leads to a file, and to a heading in that file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

LISTED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
).stdout
PAGES = sorted(filter(None, LISTED.split("\0"))) or [
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
]
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(page: str) -> list[str]:
    return LINK.findall(CODE.sub("", (ROOT / page).read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub and mkdocs make for the headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: str) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match("[a-z]+:", path):
            assert re.match(r"https?://[\w.-]+/?", link), link
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        # mkdocs makes no page for a folder.
        assert target.is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_links_are_found() -> None:
    assert "docs/classification.md" in links("README.md")
    assert "folder" in anchors(ROOT / "docs/data_formats.md")


def test_every_page_of_docs_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w/]+\.md)$", navigation, re.M)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages == {name for name in named if "/" not in name}
    for name in named:
        assert (ROOT / name.removeprefix("project/")).exists() or (ROOT / "docs" / name).exists()
