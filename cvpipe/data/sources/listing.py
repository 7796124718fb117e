"""Lists of the files in a folder or an archive, without hidden files and leftovers of systems.

A name is a path below the root, with / between its parts.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cvpipe.errors import counted

log = logging.getLogger(__name__)

# Made by macOS, Windows, Synology and Linux, not by users. In lower case.
_LEFTOVERS = frozenset(
    (
        "__macosx",
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "lost+found",
    )
)


class Listing(NamedTuple):
    """Content of a folder or an archive."""

    files: list[str]
    """Names of files, sorted."""
    folders: frozenset[str]
    """Names of folders, empty ones too; "" is the root."""
    aliases: dict[str, str]
    """Linked folders whose files are listed under another name, mapped to that name."""


def list_entries(root: Path, files: Iterable[str], folders: Iterable[str]) -> Listing:
    """List an archive from the names of its entries."""
    kept, leftovers = [], set()
    for name in files:
        leftover = _leftover_in(name)
        if leftover:
            leftovers.add(leftover)
        else:
            kept.append(name)
    known = {""}
    for folder in (*folders, *(posixpath.dirname(name) for name in kept)):
        if not _leftover_in(folder):
            known.update(_with_parents(folder))
    _warn_of_leftovers(root, sorted(leftovers))
    return Listing(sorted(kept), frozenset(known), {})


def list_folder(root: Path) -> Listing:
    """List a folder recursively. Links to folders are followed last, and each real folder is listed
    once.
    """
    files, folders, leftovers = list[str](), [""], list[str]()
    names = {_identity(os.fspath(root)): ""}
    aliases: dict[str, str] = {}
    links, broken = list[str](), list[str]()

    def enter(name: str) -> bool:
        first = names.setdefault(_identity(os.path.join(root, name)), name)  # noqa: PTH118
        if first != name:
            aliases[name] = first
        return first == name

    def walk(top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            for entry in _entries(root, folder):
                name = posixpath.join(folder, entry.name)
                if is_leftover(entry.name):
                    leftovers.append(name)
                elif entry.is_file():
                    files.append(name)
                elif entry.is_symlink() and entry.is_dir():
                    links.append(name)
                elif entry.is_dir() and enter(name):
                    folders.append(name)
                    waiting.append(name)
                elif entry.is_symlink():
                    broken.append(name)

    walk("")
    # The list grows during the loop if a linked folder contains links.
    for link in links:
        if enter(link):
            folders.append(link)
            walk(link)
    _warn_of_leftovers(root, sorted(leftovers))
    _warn_of_aliases(root, aliases)
    if broken:
        log.warning(
            "%s: left out %s whose target is missing, such as %s",
            root,
            counted(len(broken), "link"),
            min(broken),
        )
    return Listing(sorted(files), frozenset(folders), aliases)


def is_leftover(part: str) -> bool:
    """Return True if a name is hidden or belongs to an operating system."""
    return part.startswith(".") or part.casefold() in _LEFTOVERS


def _leftover_in(name: str) -> str | None:
    """Return the name up to its first part that is a leftover; None if no part is."""
    parts = name.split("/")
    return next(
        ("/".join(parts[: n + 1]) for n, part in enumerate(parts) if is_leftover(part)), None
    )


def _with_parents(folder: str) -> Iterable[str]:
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        log.warning("%s: left out, since it can't be read: %s", root / folder, error.strerror)
        return []


def _warn_of_leftovers(root: Path, leftovers: list[str]) -> None:
    if leftovers:
        log.warning(
            "%s: left out %s, hidden or made by the operating system, such as %s",
            root,
            counted(len(leftovers), "file or folder", "files or folders"),
            leftovers[0],
        )


def _warn_of_aliases(root: Path, aliases: dict[str, str]) -> None:
    # Links to a parent folder aren't reported, because nothing is left out.
    others = [alias for alias, name in aliases.items() if not f"{alias}/".startswith(name)]
    if others:
        log.warning(
            "%s: left out %s to folders that are read under another name, such as %s to %s",
            root,
            counted(len(others), "link"),
            others[0],
            aliases[others[0]],
        )
