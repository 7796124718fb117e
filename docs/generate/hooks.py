"""Hooks of mkdocs that copy files into the site if its pages link to them.

Pages link to files of the project by relative paths, which work on the forge. The hooks copy these
files into the site and change the links, so that they lead to the copies.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROJECT = "project"
"""Folder of the site for copies of files from outside docs/."""
LINK = re.compile(r"(?<=\]\()([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add the files to which pages link; if an added file is a page, also the files it links to."""
    from mkdocs.structure.files import File

    waiting = [file for file in files if file.is_documentation_page()]
    for file in waiting:
        text = (ROOT / _in_project(file.src_uri)).read_text(encoding="utf-8")
        for target in _targets(text, file.src_uri):
            uri = _in_site(target)
            path = ROOT / target
            if path.is_file() and files.get_file_from_path(uri) is None:
                added = File.generated(config, uri, abs_src_path=str(path))
                files.append(added)
                if added.is_documentation_page():
                    waiting.append(added)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Change links to the site's copies."""
    here = page.file.src_uri

    def moved(found: re.Match[str]) -> str:
        target = _resolved(found[1], here)
        if target is None:
            return found[0]
        return posixpath.relpath(_in_site(target), posixpath.dirname(here) or ".") + found[2]

    parts = CODE.split(markdown)
    return "".join(part if n % 2 else LINK.sub(moved, part) for n, part in enumerate(parts))


def _targets(text: str, here: str) -> list[str]:
    """Return the files to which a page links, as paths relative to the project."""
    plain = CODE.sub("", text)
    found = (_resolved(match[1], here) for match in LINK.finditer(plain))
    return [target for target in found if target]


def _resolved(link: str, here: str) -> str | None:
    """Return the path of a link's target relative to the project; None for a URL."""
    if re.match(r"[a-z]+:", link):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(_in_project(here)), link))


def _in_project(uri: str) -> str:
    """Return the path, relative to the project, of a file of the site."""
    return uri.removeprefix(f"{PROJECT}/") if uri.startswith(f"{PROJECT}/") else f"docs/{uri}"


def _in_site(path: str) -> str:
    """Return the path in the site of a file whose path relative to the project is given."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{PROJECT}/{path}"
